//! Text → [`Config`], and errors of one line that name the file, the place, the key and the mend.

use toml::de::{DeTable, DeValue};

use super::Config;
use super::check::check;

/// What is wrong with a configuration, in one line. It never repeats a password's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {key}: {what}; {mend}")]
pub struct ConfigError {
    /// The file's name as it was given.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The key with its tables, such as `targets.password`.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub mend: String,
}

impl Config {
    /// A configuration with a comment on each key: for the guides, and the start of one's own.
    pub const SAMPLE: &str = include_str!("../../docs/rowgate.example.toml");

    /// Reads and checks a configuration; `file` is only its name in errors. Reading the file is the caller's.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| of_toml(&error, text, file))?;
        check(&config).map_err(|complaint| complaint.locate(text, file))?;
        Ok(config)
    }
}

/// What a check has to say, before its place is looked up.
#[derive(Clone, Debug)]
pub(super) struct Complaint {
    /// The path of the key: names, and indices of arrays.
    pub(super) path: Vec<Step>,
    pub(super) what: String,
    pub(super) mend: String,
}

/// One step into the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(&'static str),
    At(usize),
}

impl Complaint {
    fn locate(self, text: &str, file: &str) -> ConfigError {
        let offset = find(text, &self.path).unwrap_or(0);
        let names = self.path.iter().filter_map(|step| match step {
            Step::Key(name) => Some(*name),
            Step::At(_) => None,
        });
        let key = names.collect::<Vec<_>>().join(".");
        let (line, column) = position(text, offset);
        ConfigError { file: file.to_owned(), line, column, key, what: self.what, mend: self.mend }
    }
}

/// The offset of the key, or of the deepest table on the way to it that is there.
fn find(text: &str, path: &[Step]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut offset = 0;
    let mut table = Some(document.get_ref());
    let mut value: Option<&DeValue<'_>> = None;
    for step in path {
        match step {
            Step::Key(name) => {
                let Some((key, found)) = table?.get_key_value(*name) else { return Some(offset) };
                offset = key.span().start;
                value = Some(found.get_ref());
            }
            Step::At(index) => {
                let found = value?.as_array()?.get(*index)?;
                offset = found.span().start;
                value = Some(found.get_ref());
            }
        }
        table = value.and_then(DeValue::as_table);
    }
    Some(offset)
}

fn of_toml(error: &toml::de::Error, text: &str, file: &str) -> ConfigError {
    let offset = error.span().map_or(0, |span| span.start);
    let (line, column) = position(text, offset);
    let complain = |key: String, what: String, mend: String| {
        let file = file.to_owned();
        ConfigError { file, line, column, key, what, mend }
    };
    let message = error.message();
    let table = table_at(text, offset);
    let within =
        |key: &str| if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
    if let Some((wrong, known)) = unknown_field(message) {
        let mend = match nearest(wrong, &known) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known here: {}", known.join(", ")),
        };
        // Where a header has the wrong name, that is the whole key.
        let in_header = line_at(text, offset).trim_start().starts_with('[');
        let key = if in_header { table.to_owned() } else { within(wrong) };
        return complain(key, "unknown key".to_owned(), mend);
    }
    if let Some(missing) = message.strip_prefix("missing field `") {
        let missing = missing.trim_end_matches('`');
        return complain(within(missing), "missing".to_owned(), format!("add {missing}"));
    }
    // The message quotes the value, which in these lines may be a secret.
    let key = key_at(text, offset);
    if ["password", "master_key", "token", "secret"].iter().any(|secret| key.contains(secret)) {
        let what = "not a string".to_owned();
        return complain(within(&key), what, "write env:NAME or file:PATH".to_owned());
    }
    let key = if key.is_empty() { "syntax".to_owned() } else { within(&key) };
    let what = message.split_whitespace().collect::<Vec<_>>().join(" ");
    complain(key, what, "mend the value or the syntax there".to_owned())
}

/// `unknown field `x`, expected one of `a`, `b`` → `x` and the names.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = message.strip_prefix("unknown field `")?.split('`');
    let wrong = quoted.next()?;
    // What stands between two names, then a name, and so on.
    Some((wrong, quoted.skip(1).step_by(2).collect()))
}

fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known.iter().map(|name| (distance(wrong, name), *name)).min()?;
    (near.0 <= 2.max(wrong.len() / 4)).then_some(near.1)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

/// The name of the table that encloses an offset: the last header at or before it.
fn table_at(text: &str, offset: usize) -> &str {
    let end =
        text.get(offset..).and_then(|rest| rest.find('\n')).map_or(text.len(), |at| offset + at);
    let lines = text.get(..end).unwrap_or(text).lines().rev();
    let header = lines.map(str::trim).find(|line| line.starts_with('['));
    let name = header.map_or("", |line| line.trim_start_matches('['));
    name.split(']').next().unwrap_or("").trim()
}

/// The key on the line of an offset.
fn key_at(text: &str, offset: usize) -> String {
    let line = line_at(text, offset);
    line.split_once('=').map_or(String::new(), |(key, _)| key.trim().to_owned())
}

fn line_at(text: &str, offset: usize) -> &str {
    let start = text.get(..offset).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or("")
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("approvalz", "approvals"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(nearest("lisen", &["name", "listen"]), Some("listen"));
        assert_eq!(nearest("colour", &["name", "listen"]), None);
    }
}
