//! The house's rules as a test: layers, sizes, module docs, and where `unsafe` may be.
//!
//! It reads the sources as text. What a formatter or clippy already checks is not repeated here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest function outside tests: what fits a screen.
const MAX_FUNCTION: usize = 70;
/// Longest file before its tests.
const MAX_FILE: usize = 500;
/// Half of all files must be shorter than this.
const MAX_MEDIAN: usize = 220;

/// Each module's layer: it may use only modules of lower layers.
const LAYERS: [(&str, u8); 28] = [
    ("clock", 0),
    ("codec", 0),
    ("fault", 0),
    ("network", 0),
    ("principal", 0),
    ("run", 0),
    ("secret", 0),
    ("schema", 0),
    ("visible", 0),
    ("sql", 1),
    ("identity", 1),
    ("config", 1),
    ("policy", 2),
    ("record", 2),
    ("session", 3),
    ("https", 4),
    ("metrics", 4),
    ("store", 4),
    ("socket", 4),
    ("plugin", 5),
    ("audit", 5),
    ("approval", 5),
    ("vault", 5),
    ("catalog", 5),
    ("net", 6),
    ("control", 6),
    ("gateway", 7),
    ("cli", 8),
];

/// The files that may hold `unsafe`, each with the reason why.
const UNSAFE_FILES: [(&str, &str); 3] = [
    ("src/net/io.rs", "monoio's write half lends no descriptor to send on at once"),
    ("src/net/listener.rs", "monoio gives accepted sockets up by their number only"),
    ("src/vault/key.rs", "locking a page in memory takes its address"),
];

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The lines before the file's unit tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
            .map(|(at, line)| (at + 1, line))
    }

    /// The module of `src/` it belongs to: `src/sql/lexer.rs` and `src/sql.rs` are of `sql`.
    fn module(&self) -> Option<String> {
        let inside = self.path.strip_prefix(root().join("src")).ok()?;
        let first = inside.components().next()?.as_os_str().to_str()?;
        Some(first.trim_end_matches(".rs").to_owned())
    }

    fn name(&self) -> String {
        self.path.strip_prefix(root()).unwrap_or(&self.path).display().to_string()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut found);
    }
    assert!(!found.is_empty(), "no sources found under {folders:?}");
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder's entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).expect("a source is UTF-8");
            found.push(Source { path, text });
        }
    }
}

fn complain(rule: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{rule}:\n  {}", complaints.join("\n  "));
}

#[test]
fn modules_use_only_lower_layers() {
    let layers: BTreeMap<&str, u8> = LAYERS.into_iter().collect();
    let mut complaints = Vec::new();
    for source in sources(&["src"]) {
        let Some(module) = source.module() else { continue };
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let Some(own) = layers.get(module.as_str()) else {
            complaints.push(format!("{}: module {module} has no layer", source.name()));
            continue;
        };
        for (number, line) in source.code() {
            let at = format!("{}:{number}", source.name());
            if line.contains("crate::{") {
                complaints.push(format!("{at}: `crate::{{…}}` hides an edge; one line a module"));
            }
            for used in uses_of(line) {
                match layers.get(used) {
                    _ if used == module => {}
                    Some(layer) if layer < own => {}
                    Some(layer) => complaints
                        .push(format!("{at}: {module} (layer {own}) uses {used} (layer {layer})")),
                    None => complaints.push(format!("{at}: crate::{used} has no layer")),
                }
            }
        }
    }
    complain("a module uses only modules of lower layers", &complaints);
}

/// The modules named by `crate::…` in a line of code (not of a doc comment).
fn uses_of(line: &str) -> Vec<&str> {
    if line.trim_start().starts_with("//") {
        return Vec::new();
    }
    line.match_indices("crate::")
        .filter(|(at, _)| !line[..*at].ends_with('$'))
        .map(|(at, found)| {
            let rest = &line[at + found.len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            &rest[..end]
        })
        .filter(|word| !word.is_empty())
        .collect()
}

#[test]
fn lower_layers_do_no_io() {
    let banned =
        ["monoio", "wasmtime", "tokio", "std::fs", "std::net::Tcp", "SystemTime", "Instant::now"];
    let mut complaints = Vec::new();
    for source in sources(&["src"]) {
        let Some(module) = source.module() else { continue };
        let low = LAYERS.iter().any(|(name, layer)| *name == module && *layer <= 3);
        for (number, line) in
            source.code().filter(|(_, line)| low && !line.trim().starts_with("//"))
        {
            for word in banned.iter().filter(|word| line.contains(**word)) {
                complaints.push(format!("{}:{number}: {word}", source.name()));
            }
        }
    }
    complain("layers 0 to 3 have no sockets, files, clocks or WASM", &complaints);
}

#[test]
fn every_file_says_what_it_does() {
    let complaints: Vec<_> = sources(&["src", "xtask/src", "plugins", "benches", "tests"])
        .iter()
        .filter(|source| !source.text.starts_with("//!"))
        .map(Source::name)
        .collect();
    complain("a file starts with `//!`", &complaints);
}

#[test]
fn files_are_short() {
    let mut lengths: Vec<(usize, String)> = sources(&["src", "xtask/src", "plugins"])
        .iter()
        .map(|source| (source.code().count(), source.name()))
        .collect();
    lengths.sort();
    let long: Vec<_> = lengths.iter().filter(|(lines, _)| *lines > MAX_FILE).collect();
    let long: Vec<_> = long.iter().map(|(lines, name)| format!("{name}: {lines} lines")).collect();
    complain("a file has at most 500 lines before its tests", &long);
    let (median, _) = lengths[lengths.len() / 2];
    assert!(median <= MAX_MEDIAN, "the median file has {median} lines");
}

#[test]
fn functions_are_short() {
    let mut complaints = Vec::new();
    for source in sources(&["src", "xtask/src", "plugins"]) {
        let mut open: Option<(usize, usize, String)> = None;
        for (number, line) in source.code() {
            let indent = line.len() - line.trim_start().len();
            if let Some((start, depth, name)) = &open {
                if line.trim_start().starts_with('}') && indent == *depth {
                    let lines = number - start + 1;
                    if lines > MAX_FUNCTION {
                        complaints
                            .push(format!("{}:{start}: {name}: {lines} lines", source.name()));
                    }
                    open = None;
                }
            } else if let Some(name) = function_name(line)
                && !line.trim_end().ends_with(['}', ';'])
            {
                open = Some((number, indent, name.to_owned()));
            }
        }
    }
    complain("a function has at most 70 lines", &complaints);
}

/// The name, where a line starts a function.
fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    for word in ["pub(crate) ", "pub(super) ", "pub ", "const ", "async ", "unsafe "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let rest = rest.strip_prefix("fn ")?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

#[test]
fn unsafe_is_where_it_is_listed() {
    let mut complaints = Vec::new();
    for source in sources(&["src", "xtask/src"]) {
        let name = source.name();
        if UNSAFE_FILES.iter().any(|(file, _)| *file == name) {
            continue;
        }
        for (number, line) in source.code() {
            let code = line.split("//").next().unwrap_or("");
            if code.contains("unsafe {")
                || code.contains("unsafe fn")
                || code.contains("unsafe impl")
            {
                complaints.push(format!("{name}:{number}"));
            }
        }
    }
    complain("unsafe only in the listed files", &complaints);
}

#[test]
fn names_say_something() {
    let vague = ["utils", "util", "common", "helper", "helpers", "manager", "misc"];
    let complaints: Vec<_> = sources(&["src", "xtask/src", "plugins"])
        .iter()
        .filter(|source| {
            let stem = source.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
            vague.contains(&stem)
        })
        .map(Source::name)
        .collect();
    complain("a file's name says what is in it", &complaints);
}

#[test]
fn nothing_is_left_for_later() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("unimple", "mented!")];
    let mut complaints = Vec::new();
    for source in sources(&["src", "xtask/src", "plugins", "tests", "benches"]) {
        for (at, line) in source.text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                complaints.push(format!("{}:{}: {word}", source.name(), at + 1));
            }
        }
    }
    complain("what is not done is in an issue, not in the code", &complaints);
}

/// Plugins are built by others against `wit/v1`: a change to it would break them without a word.
#[test]
fn the_contract_of_version_1_stands() {
    let text = std::fs::read_to_string(root().join("wit/v1/rowgate.wit")).unwrap();
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    let digest = blake3::hash(words.join(" ").as_bytes()).to_hex();
    assert_eq!(
        &digest.as_str()[..16],
        "7d2c7939a6adb40b",
        "a change to a record, variant, flag or signature is a new version, in wit/v2, beside this one"
    );
}

/// What the page on the protocol says is held by tests: those that it names exist, and each row names one.
#[test]
fn the_tests_that_the_protocols_page_names_exist() {
    let page = fs::read_to_string(root().join("docs/protocol.md")).expect("the page");
    let sources = sources(&["src", "tests"]);
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Part |"));
    let (mut complaints, mut count) = (Vec::new(), 0);
    for row in rows {
        count += 1;
        let held_by = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let names: Vec<&str> = held_by.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            complaints.push(format!("no test holds: {row}"));
        }
        complaints.extend(
            names
                .iter()
                .filter(|name| !is_test(name, &sources))
                .map(|name| format!("no test: {name}")),
        );
    }
    assert!(count > 40, "the page's rows were not found");
    complain("each row of docs/protocol.md is held by tests that exist", &complaints);
}

/// Whether this is a script of `tests/sessions`, or `file::function` a test (perhaps one on both databases).
fn is_test(name: &str, sources: &[Source]) -> bool {
    let Some((file, function)) = name.split_once("::") else {
        let is_script = Path::new(name).extension().is_some_and(|end| end == "txt");
        return is_script && root().join("tests/sessions").join(name).exists();
    };
    let ends = [format!("/{file}.rs"), format!("/{file}/mod.rs")];
    let is_word = |rest: &str| {
        rest.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == function)
    };
    sources.iter().filter(|source| ends.iter().any(|end| source.name().ends_with(end))).any(
        |Source { text, .. }| {
            let start = text.find(&format!("fn {function}("));
            let on_both =
                text.split("on_both!").skip(1).filter_map(|rest| rest.split([')', '}']).next());
            start.is_some_and(|at| {
                text[..at].trim_end().ends_with("#[test]") || on_both.into_iter().any(is_word)
            })
        },
    )
}
