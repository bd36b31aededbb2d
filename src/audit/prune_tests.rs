//! What is to be kept is kept, what goes leaves a tombstone, and the rest is proved as before.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::holds::Hold;
use super::keys::{Keys, SigningKey};
use super::prune::{Order, PruneError};
use super::read::{Folder, ReadError};
use super::search::Filter;
use super::{Audit, Pruned, segment, tombstone};
use crate::clock::now_us;
use crate::config::{self, Durability, Retention};
use crate::record::{Event, Intent, Recorded, RecordedIntent};
use crate::sql::{Digest, Verb};

const DAY_US: i64 = 86_400_000_000;

fn signing() -> SigningKey {
    SigningKey::from_text(&b"5e".repeat(32)).unwrap()
}

fn open(dir: &Path) -> Audit {
    let settings = config::Audit {
        durability: Durability::Sync,
        segment_bytes: 4_096,
        ..config::Audit::at(dir)
    };
    Audit::open(&settings, Keys { signing: signing(), encryption: None }, 1).unwrap()
}

/// One session after the other: of `bot` in `agents` on `shop`, then of `ann` in `dba` on `crm`, each over two segments.
fn filled(dir: &Path) {
    let audit = open(dir);
    let mut writer = audit.writer(0);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sessions = [(1, "bot", "agents", "shop"), (2, "ann", "dba", "crm")];
    for (session, identity, group, target) in sessions {
        let (at_us, groups) = (now_us(), [group.to_owned()]);
        writer.append(&Event::SessionOpened {
            session,
            at_us,
            identity,
            groups: &groups,
            target,
            source: "here",
            attributes: &[],
        });
        let number = segment::list(dir).unwrap().len();
        let mut statement = 0;
        // to the end of the segment, and the next one whole
        while segment::list(dir).unwrap().len() < number + 2 {
            statement += 1;
            let ticket =
                writer.append(&Event::Intent(intent(session, statement, identity, target)));
            runtime.block_on(writer.durable(ticket)).unwrap();
        }
        writer.append(&Event::SessionClosed { session, at_us, reason: "quit" });
    }
    audit.close();
}

fn intent<'a>(session: u64, statement: u64, identity: &'a str, target: &'a str) -> Intent<'a> {
    Intent {
        session,
        statement,
        at_us: now_us(),
        identity,
        target,
        schema: None,
        command: "query",
        verb: Verb::Select,
        digest: Digest([1; 16]),
        text: "SELECT something FROM somewhere WHERE a_column = ?",
        verdict: "allow",
        rules: &[],
        masked: &[],
        tables: &[],
        policy_version: "1",
        attribute_count: 0,
        attributes: &[],
    }
}

fn rule(keep_days: u32, target: Option<&str>, group: Option<&str>) -> Retention {
    let (target, group) = (target.map(str::to_owned), group.map(str::to_owned));
    Retention { keep_days, target, group }
}

/// Prunes as if so many days had gone by.
fn prune(dir: &Path, rules: &[Retention], days: i64, dry: bool) -> Result<Vec<Pruned>, PruneError> {
    let (key, now_us) = (signing(), now_us() + days * DAY_US);
    let order = Order { by: "ann", now_us, dry };
    Folder::new(dir).prune(rules, (&key, &[key.public()]), &order)
}

/// The segments that would go.
fn going(dir: &Path, rules: &[Retention], days: i64) -> Vec<u64> {
    let pruned = prune(dir, rules, days, true).unwrap();
    pruned.iter().flat_map(|range| range.first..=range.last).collect()
}

#[test]
fn the_longest_rule_counts_and_nothing_that_is_to_be_kept_goes() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let all: Vec<u64> = (1..=segment::list(dir.path()).unwrap().len() as u64).collect();
    let (first, whole) = (all[..1].to_vec(), all[..all.len() - 1].to_vec());
    let going = |rules: &[Retention], days| going(dir.path(), rules, days);
    assert!(going(&[], 10_000).is_empty(), "for good");
    assert!(going(&[rule(90, None, None)], 89).is_empty());
    assert_eq!(
        going(&[rule(90, None, None)], 91),
        whole,
        "but for the last, which is being written"
    );
    // of the shop alone: the second segment has the end of bot's and the beginning of ann's
    let shop = going(&[rule(90, Some("shop"), None)], 91);
    assert_eq!(shop, first);
    assert!(going(&[rule(90, Some("shop"), None), rule(400, None, Some("agents"))], 91).is_empty());
    assert_eq!(going(&[rule(90, Some("shop"), None), rule(400, None, None)], 91), first);
    assert_eq!(going(&[rule(400, Some("shop"), None), rule(90, None, None)], 91).first(), Some(&3));
    assert_eq!(going(&[rule(90, None, Some("agents")), rule(90, None, Some("dba"))], 91), whole);
}

#[test]
fn what_is_held_stays_until_the_hold_is_lifted() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let folder = Folder::new(dir.path());
    let rules = [rule(90, None, None)];
    let hold = |identity: Option<&str>, session, until_us| {
        folder
            .hold(Hold {
                id: 0,
                identity: identity.map(str::to_owned),
                session,
                until_us,
                reason: "case 4711".to_owned(),
                by: "ann".to_owned(),
                at_us: 0,
                lifted: None,
            })
            .unwrap()
            .id
    };
    let going = || going(dir.path(), &rules, 91);
    let all = going();
    let id = hold(Some("bot"), None, None);
    assert!(!going().is_empty() && going().first() == Some(&3), "what ann did alone");
    folder.lift(id, "ann").unwrap();
    assert!(folder.lift(id, "ann").is_err(), "once");
    assert_eq!(going(), all);
    let id = hold(None, Some(2), None);
    assert_eq!(going(), [1]);
    folder.lift(id, "ann").unwrap();
    hold(None, None, Some(now_us() + 90 * DAY_US));
    assert_eq!(going(), all, "it has ended by then");
    hold(None, None, None);
    assert!(going().is_empty());
    std::fs::write(dir.path().join("holds.json"), "nothing is held").unwrap();
    assert!(matches!(prune(dir.path(), &rules, 91, false), Err(PruneError::Hold(_))));
    assert!(folder.holds().is_err());
}

#[test]
fn a_tombstone_proves_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let folder = Folder::new(dir.path());
    let keys = [signing().public()];
    let before = folder.verify(&keys, None).unwrap();
    let first: Vec<u8> = std::fs::read(segment::path(dir.path(), 1)).unwrap();
    let pruned = prune(dir.path(), &[rule(90, Some("shop"), None)], 91, false).unwrap();
    assert_eq!((pruned.len(), pruned[0].first, pruned[0].last), (1, 1, 1));
    assert!(!segment::path(dir.path(), 1).exists());
    let report = folder.verify(&keys, super::read::chain_of(&before.chain)).unwrap();
    assert_eq!((report.segments, &report.pruned), (before.segments - 1, &pruned));
    assert_eq!(report.records + pruned[0].records, before.records);
    // a range in the middle, and all that reads goes over it
    let more = prune(dir.path(), &[rule(90, None, None)], 91, false).unwrap();
    assert_eq!(more[0].first, 2);
    folder.verify(&keys, None).unwrap();
    assert!(folder.records().unwrap().all(|found| found.is_ok()));
    assert!(folder.search(&Filter::default(), None, 10).is_ok());
    let audit = open(dir.path());
    audit
        .writer(0)
        .record(&Event::Admin { at_us: 1, by: "ann", action: "did", subject: "" })
        .unwrap();
    audit.close();
    let after = folder.verify(&keys, None).unwrap();
    assert_eq!((after.pruned.len(), after.first_segment), (2, 1));
    // what a crash left of a pruned segment counts for nothing, and goes with the next pruning
    std::fs::write(segment::path(dir.path(), 1), first).unwrap();
    assert_eq!(folder.verify(&keys, None).unwrap(), after);
    prune(dir.path(), &[rule(90, Some("shop"), None)], 91, false).unwrap();
    assert!(!segment::path(dir.path(), 1).exists());
    // a tombstone that was changed, made by somebody else, or taken away
    let path = segment::listed(dir.path(), "rgtomb").unwrap().remove(0);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"ann\"", "\"bob\"")).unwrap();
    assert!(matches!(folder.verify(&keys, None), Err(ReadError::Tombstone(..))));
    tombstone::write(dir.path(), pruned[0].clone(), &SigningKey::generate().unwrap()).unwrap();
    assert!(matches!(folder.verify(&keys, None), Err(ReadError::Signer(..))));
    std::fs::write(&path, text).unwrap();
    folder.verify(&keys, None).unwrap();
    let mut other = pruned[0].clone();
    other.records += 1;
    other.after = other.before.clone();
    tombstone::write(dir.path(), other, &signing()).unwrap();
    assert!(folder.verify(&keys, None).is_err(), "it does not lead to what follows");
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(folder.verify(&keys, None), Err(ReadError::Beheaded(..))));
}

#[test]
fn a_record_that_was_changed_is_not_pruned() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let path = segment::path(dir.path(), 2);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = prune(dir.path(), &[rule(90, None, None)], 91, false).unwrap_err();
    assert!(matches!(error, PruneError::Read(_)), "{error}");
    assert!(segment::path(dir.path(), 1).exists());
}

/// Stops the load, also where the test fails.
struct Stopped<'a>(&'a AtomicBool);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_gateway_that_writes_is_not_disturbed() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path());
    let (stop, mut writer) = (AtomicBool::new(false), audit.writer(0));
    let (mut gone, keys) = (0, [signing().public()]);
    writer.record(&Event::Intent(intent(1, 0, "bot", "shop"))).unwrap();
    while segment::list(dir.path()).unwrap().is_empty() {
        std::thread::yield_now();
    }
    let written = std::thread::scope(|scope| {
        let stopped = Stopped(&stop);
        let load = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut count = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                count += 1;
                let ticket = writer.append(&Event::Intent(intent(1, count, "bot", "shop")));
                runtime.block_on(writer.durable(ticket)).unwrap();
            }
            count
        });
        let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
        while gone < 20 && std::time::Instant::now() < deadline {
            for range in prune(dir.path(), &[rule(1, None, None)], 2, false).unwrap() {
                gone += range.last - range.first + 1;
            }
            Folder::new(dir.path()).verify(&keys, None).unwrap();
        }
        drop(stopped);
        load.join().unwrap()
    });
    audit.close();
    let folder = Folder::new(dir.path());
    let report = folder.verify(&keys, None).unwrap();
    let pruned: u64 = report.pruned.iter().map(|range| range.records).sum();
    assert!(gone >= 20, "{gone} segments were pruned");
    assert_eq!(report.records + pruned, written + 1);
    let last = folder.tail(1).unwrap().0.remove(0).record.event;
    assert!(
        matches!(last, Recorded::Intent(RecordedIntent { statement, .. }) if statement == written)
    );
}
