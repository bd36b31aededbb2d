//! The record's promises: chained, durable when it says so, refused when it can't be.

use std::fs;
use std::path::Path;

use super::read::{VerifyError, tail, verify};
use super::*;
use crate::config::Durability;
use crate::record::Recorded;

fn settings(dir: &Path) -> config::Audit {
    config::Audit {
        dir: dir.to_path_buf(),
        durability: Durability::Sync,
        literals: false,
        segment_bytes: 4_096,
        queue_bytes: 64 << 10,
        answer_bytes: 16 << 10,
    }
}

fn admin(subject: &str) -> Event<'_> {
    Event::Admin { at_us: 1, by: "test", action: "did", subject }
}

fn wait(durable: Durable) -> Result<(), AuditFault> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(durable)
}

/// A folder with three segments and more.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open(&settings(dir.path()), 2).unwrap();
    let mut writer = audit.writer(0);
    for at in 0..200 {
        let ticket = writer.append(&admin(&format!("number {at}")));
        wait(writer.durable(ticket)).unwrap();
    }
    audit.close();
    dir
}

#[test]
fn what_was_written_is_read() {
    let dir = filled();
    let report = verify(dir.path(), None).unwrap();
    assert_eq!((report.records, report.torn_bytes), (200, 0));
    assert!(report.segments >= 3, "{report:?}");
    let last = tail(dir.path(), 2).unwrap();
    let Recorded::Admin { subject, .. } = &last[1].event else { panic!() };
    assert_eq!((last.len(), subject.as_str()), (2, "number 199"));
}

#[test]
fn an_edit_a_gap_and_a_truncation_are_found() {
    let spoil = |change: &dyn Fn(&[std::path::PathBuf])| {
        let dir = filled();
        change(&segment::list(dir.path()).unwrap());
        verify(dir.path(), None)
    };
    let edited = spoil(&|paths| {
        let mut bytes = fs::read(&paths[1]).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&paths[1], bytes).unwrap();
    });
    assert!(matches!(edited, Err(VerifyError::Segment(..))), "{edited:?}");
    let missing = spoil(&|paths| fs::remove_file(&paths[1]).unwrap());
    assert!(matches!(missing, Err(VerifyError::Gap(_))), "{missing:?}");
    let first = spoil(&|paths| {
        let second = fs::read(&paths[1]).unwrap();
        fs::write(&paths[0], second).unwrap();
    });
    assert!(first.is_err(), "{first:?}");
    let cut = spoil(&|paths| {
        let bytes = fs::read(&paths[0]).unwrap();
        fs::write(&paths[0], &bytes[..bytes.len() - 3]).unwrap();
    });
    assert!(matches!(cut, Err(VerifyError::Truncated(_))), "{cut:?}");
}

#[test]
fn a_torn_tail_is_cut_at_start_and_the_chain_goes_on() {
    let dir = filled();
    let last = segment::list(dir.path()).unwrap().pop().unwrap();
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() - 3]).unwrap();
    assert!(verify(dir.path(), None).unwrap().torn_bytes > 0);
    let audit = Audit::open(&settings(dir.path()), 2).unwrap();
    audit.close();
    let report = verify(dir.path(), None).unwrap();
    assert_eq!((report.records, report.torn_bytes), (200, 0), "one cut, one told");
}

#[test]
fn two_gateways_do_not_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let first = Audit::open(&settings(dir.path()), 1).unwrap();
    let second = Audit::open(&settings(dir.path()), 1).err().unwrap().to_string();
    assert!(second.contains("audit.dir: another gateway"), "{second}");
    first.close();
    Audit::open(&settings(dir.path()), 1).unwrap().close();
}

#[test]
fn a_segment_that_a_crash_left_without_its_header_is_made_again() {
    let dir = filled();
    let last = segment::list(dir.path()).unwrap().pop().unwrap();
    let next = dir.path().join("0000000099.rgseg");
    for bytes in [0, 20] {
        fs::write(&next, vec![0; bytes]).unwrap();
        assert!(verify(dir.path(), None).unwrap().torn_bytes > 0);
        let before = verify(dir.path(), None).unwrap().records;
        Audit::open(&settings(dir.path()), 2).unwrap().close();
        let report = verify(dir.path(), None).unwrap();
        assert_eq!((report.records, report.torn_bytes), (before + 1, 0), "and it is told");
        assert!(!next.exists() && last.exists());
    }
}

#[test]
fn missing_beginnings_and_ends_are_found() {
    let dir = filled();
    let all = verify(dir.path(), None).unwrap();
    let held = read::chain_of(&all.chain);
    assert!(held.is_some() && read::chain_of("12").is_none());
    assert!(verify(dir.path(), held).is_ok());
    let paths = segment::list(dir.path()).unwrap();
    let last = fs::read(paths.last().unwrap()).unwrap();
    // exactly at a record's end, where nothing looks torn
    let audit = Audit::open(&settings(dir.path()), 1).unwrap();
    audit.writer(0).record(&admin("one more")).unwrap();
    audit.close();
    let longer = read::chain_of(&verify(dir.path(), held).unwrap().chain);
    fs::remove_file(segment::list(dir.path()).unwrap().pop().unwrap()).unwrap();
    fs::write(paths.last().unwrap(), last).unwrap();
    let cut = verify(dir.path(), longer);
    assert!(matches!(cut, Err(VerifyError::Lost(..))), "{cut:?}");
    assert!(verify(dir.path(), held).is_ok());
    fs::remove_file(&paths[0]).unwrap();
    let beheaded = verify(dir.path(), None);
    assert!(matches!(beheaded, Err(VerifyError::Beheaded(_, 2))), "{beheaded:?}");
    assert!(tail(dir.path(), 1).is_ok(), "what is there can still be read");
    paths.iter().skip(1).for_each(|path| fs::remove_file(path).unwrap());
    assert!(matches!(verify(dir.path(), None), Err(VerifyError::Empty(_))));
}

#[test]
fn a_deleted_segment_is_noticed_and_the_record_goes_on_in_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open(&settings(dir.path()), 1).unwrap();
    let mut writer = audit.writer(0);
    let mut write = |subject: &str| {
        let ticket = writer.append(&admin(subject));
        wait(writer.durable(ticket)).unwrap();
    };
    write("first");
    fs::remove_file(segment::list(dir.path()).unwrap().pop().unwrap()).unwrap();
    write("second");
    let Recorded::Admin { subject, .. } = &tail(dir.path(), 1).unwrap()[0].event else { panic!() };
    assert_eq!(subject, "second");
    assert!(matches!(verify(dir.path(), None), Err(VerifyError::Beheaded(_, 2))));
    audit.close();
}

#[test]
fn a_changed_last_segment_is_refused_at_start() {
    let dir = filled();
    let last = segment::list(dir.path()).unwrap().pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[100] ^= 1;
    fs::write(&last, bytes).unwrap();
    let error = Audit::open(&settings(dir.path()), 1).err().unwrap().to_string();
    assert!(error.contains("audit.dir") && error.contains("changed"), "{error}");
}

#[test]
fn a_full_queue_refuses_and_gives_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = settings(dir.path());
    small.queue_bytes = 8 << 10;
    let audit = Audit::open(&small, 1).unwrap();
    let writer = audit.writer(0);
    let first = writer.reserve().unwrap();
    assert_eq!((writer.has_room(4_096), writer.has_room(4_097)), (Ok(()), Err(AuditFull::Queue)));
    let _second = writer.reserve().unwrap();
    assert_eq!(writer.reserve().err(), Some(AuditFull::Queue));
    drop(first);
    assert!(writer.reserve().is_ok());
    audit.close();
}
