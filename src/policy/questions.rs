//! Which permissions a statement needs: one for each table and way of access, and one for the target where it
//! does something that no table stands for.

use super::decide::Refusal;
use super::vocabulary::Action;
use crate::sql::{Access, Facts, TableUse, Verb};

/// One permission to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question<'a> {
    pub(super) action: Action,
    /// `None`: the target.
    pub(super) table: Option<&'a TableUse>,
}

/// Everything to ask for; never empty.
pub(super) fn questions<'a>(facts: &'a Facts, digest: &str) -> Result<Vec<Question<'a>>, Refusal> {
    refuse_opaque(facts)?;
    let mut found: Vec<Question<'a>> = Vec::with_capacity(facts.tables.len() + 1);
    let mut push = |action, table| {
        let question = Question { action, table };
        if !found.contains(&question) {
            found.push(question);
        }
    };
    for table in &facts.tables {
        push(on_table(facts.verb, table.access), Some(table));
        if facts.upserts && table.access == Access::Write {
            push(Action::Update, Some(table));
        }
    }
    if let Some(action) = on_target(facts, digest) {
        push(action, None);
    }
    if facts.calls_sensitive {
        push(Action::Call, None);
    }
    if found.is_empty() {
        return Err(Refusal::new("analysis", "what the statement does is not understood"));
    }
    Ok(found)
}

/// What hides what it does, or does more than the facts say, is refused whatever policies permit.
fn refuse_opaque(facts: &Facts) -> Result<(), Refusal> {
    match facts.verb {
        Verb::Unknown => Err(Refusal::new(
            "analysis",
            "the statement is empty or its kind is not known; send one statement that Rowgate knows",
        )),
        Verb::Prepare => Err(Refusal::new(
            "refused-verb",
            "PREPARE and EXECUTE hide the statement's text; use the driver's prepared statements",
        )),
        Verb::Handler => {
            Err(Refusal::new("refused-verb", "HANDLER is refused; use SELECT with a key and LIMIT"))
        }
        // The result's columns decide what is masked; without them nothing may be shown.
        Verb::Select
            if facts.outputs.is_none() && facts.tables.iter().any(|table| table.sensitive) =>
        {
            let why =
                "the statement reads labelled data and its result's columns are not understood";
            Err(Refusal::new("analysis", why))
        }
        _ => Ok(()),
    }
}

fn on_table(verb: Verb, access: Access) -> Action {
    match (access, verb) {
        // Of statements about tables as such, no row is read.
        (Access::Read, Verb::Show) => Action::Show,
        (Access::Read | Access::Write, Verb::Lock) => Action::Lock,
        (_, Verb::Grant) => Action::Grant,
        (_, Verb::Admin) => Action::Admin,
        (Access::Read, _) => Action::Select,
        (Access::Write, Verb::Insert) => Action::Insert,
        (Access::Write, Verb::Replace) => Action::Replace,
        (Access::Write, Verb::Update) => Action::Update,
        (Access::Write, Verb::Delete) => Action::Delete,
        (Access::Write, Verb::Load) => Action::Load,
        (Access::Define, Verb::Create) => Action::Create,
        (Access::Define, Verb::Drop) => Action::Drop,
        (Access::Define, Verb::Truncate) => Action::Truncate,
        (Access::Define, Verb::Rename) => Action::Rename,
        (Access::Define, _) => Action::Alter,
        // A write by any other verb is nothing that a rule on rows foresaw.
        (Access::Write, _) => Action::Admin,
    }
}

/// What the statement does besides touching tables.
fn on_target(facts: &Facts, digest: &str) -> Option<Action> {
    let defines = facts.tables.iter().any(|table| table.access == Access::Define);
    match facts.verb {
        // UNLOCK TABLES names none either.
        Verb::Select | Verb::Lock => facts.tables.is_empty().then_some(Action::Session),
        Verb::Insert | Verb::Replace | Verb::Update | Verb::Delete | Verb::Load => {
            facts.tables.is_empty().then_some(Action::Admin)
        }
        Verb::Create => (!defines).then_some(Action::Create),
        Verb::Alter => (!defines).then_some(Action::Alter),
        Verb::Drop => (!defines).then_some(Action::Drop),
        Verb::Truncate => (!defines).then_some(Action::Truncate),
        Verb::Rename => (!defines).then_some(Action::Rename),
        Verb::Grant => Some(Action::Grant),
        Verb::Set if facts.sets_globally => Some(Action::Admin),
        Verb::Set | Verb::Use | Verb::Do | Verb::Transaction => Some(Action::Session),
        Verb::Show => Some(show(digest)),
        Verb::Call => Some(Action::Call),
        Verb::Kill => Some(Action::Kill),
        // EXPLAIN FOR CONNECTION shows another session's statement.
        Verb::Explain | Verb::Admin | Verb::Prepare | Verb::Handler | Verb::Unknown => {
            Some(Action::Admin)
        }
    }
}

/// What `SHOW` may show as `show`: the description of what is there, and settings. All else (other sessions'
/// statements, logs, replication) is administration.
const SHOWN: [&str; 25] = [
    "CHARACTER",
    "CHARSET",
    "COLLATION",
    "COLUMNS",
    "CREATE",
    "DATABASES",
    "ENGINES",
    "EVENTS",
    "FIELDS",
    "FUNCTION",
    "GRANTS",
    "INDEX",
    "INDEXES",
    "KEYS",
    "OPEN",
    "PACKAGE",
    "PLUGINS",
    "PRIVILEGES",
    "PROCEDURE",
    "SCHEMAS",
    "STATUS",
    "TABLE",
    "TABLES",
    "TRIGGERS",
    "VARIABLES",
];

/// The action of a SHOW or DESCRIBE, by the word after SHOW and its modifiers.
fn show(digest: &str) -> Action {
    let mut words = words(digest).map(str::to_ascii_uppercase);
    if words.next().is_none_or(|first| first != "SHOW") {
        return Action::Show;
    }
    let modifiers = ["ALL", "EXTENDED", "FULL", "GLOBAL", "LOCAL", "SESSION", "STORAGE"];
    match words.find(|word| !modifiers.contains(&word.as_str())).as_deref() {
        // How many there are tells of values as well as what they say.
        Some("WARNINGS" | "ERRORS" | "COUNT") => Action::Diagnostics,
        Some(kind) if SHOWN.contains(&kind) => Action::Show,
        _ => Action::Admin,
    }
}

fn words(digest: &str) -> impl Iterator<Item = &str> {
    digest.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}
