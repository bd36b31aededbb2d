//! Searches by index find what a look at every record finds.

use std::path::Path;
use std::sync::LazyLock;

use super::keys::Keys;
use super::read::Folder;
use super::search::{Ending, Entry, Filter, Statement};
use super::{Audit, segment};
use crate::config::{self, Durability};
use crate::record::{Completion, Event, Intent, Recorded, RecordedIntent};
use crate::sql::{Digest, Verb};

const SECOND: i64 = 1_000_000;

/// The time of the first turn.
static BASE: LazyLock<i64> = LazyLock::new(|| crate::clock::now_us() - 120 * SECOND);

/// Sessions of four identities whose statements overlap, over many small segments; some never end.
fn filled(dir: &Path) {
    let settings = config::Audit {
        durability: Durability::Sync,
        segment_bytes: 8 << 10,
        ..config::Audit::at(dir)
    };
    let audit = Audit::open(&settings, Keys::generate().unwrap(), 1).unwrap();
    let mut writer = audit.writer(0);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for turn in 0..120_u64 {
        let at_us = *BASE + i64::try_from(turn).unwrap() * SECOND;
        let session = turn / 10;
        if turn % 10 == 0 {
            let attributes = [("run".to_owned(), format!("run-{}", session % 3))];
            writer.append(&Event::SessionOpened {
                session,
                at_us,
                identity: "bot",
                groups: &[],
                target: "shop",
                source: "here",
                attributes: &attributes,
            });
        }
        intent(&mut writer, session, turn, at_us);
        // they end three turns later, so that many end in another segment
        if turn >= 3 && turn % 7 != 0 {
            let begun = turn - 3;
            let error_code =
                if begun % 5 == 0 { 1_000 + u16::try_from(begun % 3).unwrap() } else { 0 };
            let session = begun / 10;
            let completion = Completion {
                session,
                statement: begun,
                at_us,
                error_code,
                ..Completion::default()
            };
            writer.append(&Event::Completion(completion));
        }
        let ticket = writer.append(&Event::Approval {
            at_us,
            approval: &format!("apr_{turn}"),
            change: "requested",
            by: "bot",
            reason: "",
            session,
        });
        runtime.block_on(writer.durable(ticket)).unwrap();
    }
    audit.close();
}

fn intent(writer: &mut super::Writer, session: u64, turn: u64, at_us: i64) {
    let rules = [format!("rule-{}", turn % 4)];
    let tables = [format!("shop.t{}", turn % 6), "crm.Names".to_owned()];
    let identity = format!("bot-{}", session % 4);
    let run = [("run_id", "nightly")];
    writer.append(&Event::Intent(Intent {
        session,
        statement: turn,
        at_us,
        identity: &identity,
        target: if turn.is_multiple_of(2) { "shop" } else { "crm" },
        schema: None,
        command: "query",
        verb: if turn.is_multiple_of(3) { Verb::Update } else { Verb::Select },
        digest: Digest([u8::try_from(turn % 5).unwrap(); 16]),
        text: "SELECT something FROM somewhere WHERE a_column = ?",
        verdict: if turn.is_multiple_of(11) { "deny" } else { "allow" },
        rules: &rules,
        masked: &[],
        tables: if turn.is_multiple_of(13) { &tables } else { &tables[..1] },
        policy_version: "1",
        attribute_count: 0,
        attributes: if turn.is_multiple_of(9) { &run } else { &[] },
    }));
}

/// Every statement with its end, by a look at all of them.
fn all(folder: &Folder) -> Vec<Statement> {
    let mut all: Vec<Statement> = Vec::new();
    for found in folder.records().unwrap() {
        let found = found.unwrap();
        match found.record.event.clone() {
            Recorded::Intent(_) => all.push(Statement {
                position: found.position,
                intent: found.record,
                completion: None,
            }),
            Recorded::Completion(Completion { statement: ended, .. }) => {
                let is_it = |one: &&mut Statement| matches!(&one.intent.event, Recorded::Intent(RecordedIntent { statement, .. }) if *statement == ended);
                all.iter_mut().find(is_it).unwrap().completion = Some(found.record.event);
            }
            _ => {}
        }
    }
    all
}

type Fits = Box<dyn Fn(&Statement) -> bool>;

fn wanted() -> Vec<(Filter, Fits)> {
    fn of(filter: Filter, fits: impl Fn(u64, u64, u16) -> bool + 'static) -> (Filter, Fits) {
        let fits = move |found: &Statement| {
            let Recorded::Intent(RecordedIntent { session, statement, .. }) = &found.intent.event
            else {
                return false;
            };
            let error = match &found.completion {
                Some(Recorded::Completion(Completion { error_code, .. })) => *error_code,
                _ => 0,
            };
            fits(*session, *statement, error)
        };
        (filter, Box::new(fits))
    }
    let text = |text: &str| Some(text.to_owned());
    let none = Filter::default;
    vec![
        of(none(), |_, _, _| true),
        of(Filter { identity: text("bot-2"), ..none() }, |session, _, _| session % 4 == 2),
        of(Filter { identity: text("bot"), ..none() }, |_, _, _| false),
        of(Filter { target: text("crm"), ..none() }, |_, turn, _| turn % 2 == 1),
        of(Filter { table: text("shop.T4"), ..none() }, |_, turn, _| turn % 6 == 4),
        of(Filter { table: text("names"), ..none() }, |_, turn, _| turn % 13 == 0),
        of(Filter { verb: text("UPDATE"), ..none() }, |_, turn, _| turn % 3 == 0),
        of(Filter { digest: text(&"03".repeat(16)), ..none() }, |_, turn, _| turn % 5 == 3),
        of(Filter { verdict: text("deny"), ..none() }, |_, turn, _| turn % 11 == 0),
        of(Filter { rule: text("rule-1"), ..none() }, |_, turn, _| turn % 4 == 1),
        of(Filter { run: text("run-1"), ..none() }, |session, _, _| session % 3 == 1),
        of(Filter { run: text("nightly"), ..none() }, |_, turn, _| turn % 9 == 0),
        of(Filter { session: Some(5), ..none() }, |session, _, _| session == 5),
        of(Filter { error: Some(Ending::Any), ..none() }, |_, _, error| error != 0),
        of(Filter { error: Some(Ending::Code(1_001)), ..none() }, |_, _, error| error == 1_001),
        of(
            Filter {
                since_us: Some(*BASE + 40 * SECOND),
                until_us: Some(*BASE + 50 * SECOND),
                ..none()
            },
            |_, turn, _| (40..50).contains(&turn),
        ),
        of(
            Filter { verb: text("select"), target: text("shop"), rule: text("rule-2"), ..none() },
            |_, turn, _| turn % 3 != 0 && turn % 2 == 0 && turn % 4 == 2,
        ),
    ]
}

/// Page by page, so that what is between two of them is neither lost nor told twice.
fn paged(folder: &Folder, filter: &Filter, limit: usize) -> Vec<Statement> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = folder.search(filter, before, limit).unwrap();
        let next = page.next;
        all.splice(0..0, page.statements);
        before = match next {
            Some(_) => next,
            None => return all,
        };
    }
}

#[test]
fn a_search_finds_what_a_look_at_everything_finds() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let folder = Folder::new(dir.path());
    assert!(segment::list(dir.path()).unwrap().len() > 4, "several segments");
    let all = all(&folder);
    assert_eq!(all.len(), 120);
    let check = || {
        for (filter, fits) in wanted() {
            let expected: Vec<Statement> = all.iter().filter(|one| fits(one)).cloned().collect();
            for limit in [1_000, 7, 1] {
                assert_eq!(paged(&folder, &filter, limit), expected, "{filter:?} by {limit}");
            }
        }
    };
    check();
    let segments = segment::list(dir.path()).unwrap().len() as u64;
    assert_eq!(folder.index(false).unwrap(), (0, segments - 1), "the searches made them");
    // what is not an index, or one of something else, is not used
    let indexes = segment::listed(dir.path(), "rgidx").unwrap();
    std::fs::copy(&indexes[0], &indexes[1]).unwrap();
    std::fs::write(&indexes[2], b"RGIDX").unwrap();
    std::fs::remove_file(&indexes[3]).unwrap();
    check();
    assert_eq!(folder.index(true).unwrap(), (segments - 1, 0));
    check();
}

#[test]
fn a_session_is_shown_in_order() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let folder = Folder::new(dir.path());
    let entries = folder.session(5, None).unwrap();
    let (mut statements, mut approvals) = (0, 0);
    assert!(
        matches!(&entries[0], Entry::Event(found) if matches!(found.record.event, Recorded::SessionOpened(_)))
    );
    let position = |entry: &Entry| match entry {
        Entry::Statement(statement) => statement.position,
        Entry::Event(found) => found.position,
    };
    assert!(entries.is_sorted_by_key(position));
    for entry in &entries {
        match entry {
            Entry::Statement(statement) => {
                let Recorded::Intent(RecordedIntent { session, statement: number, .. }) =
                    &statement.intent.event
                else {
                    panic!()
                };
                assert_eq!((*session, number / 10), (5, 5));
                assert_eq!(statement.completion.is_some(), (number + 3) % 7 != 0);
                statements += 1;
            }
            Entry::Event(found) => {
                approvals += usize::from(matches!(found.record.event, Recorded::Approval { .. }));
            }
        }
    }
    assert_eq!((statements, approvals), (10, 10));
    // it ran for three turns, in which four requests came
    let one = folder.session(5, Some(52)).unwrap();
    assert_eq!(one.len(), 1 + 4, "{one:?}");
    assert!(folder.session(5, Some(99)).unwrap().is_empty());
    assert!(folder.session(99, None).unwrap().is_empty());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(16))]
    /// Indexes are files that anyone could have written: a wrong one is an error, or is passed over.
    #[test]
    fn a_spoiled_index_never_panics(at in 0_usize..2_000, byte: u8) {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let folder = Folder::new(dir.path());
        folder.index(false).unwrap();
        for path in segment::listed(dir.path(), "rgidx").unwrap() {
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= byte;
            std::fs::write(&path, bytes).unwrap();
        }
        for (filter, _) in wanted() {
            let _ = folder.search(&filter, None, 1_000);
        }
    }
}
