//! The record's promises: chained, durable when it says so, refused when it can't be.

use std::fs;
use std::path::Path;

use super::keys::SigningKey;
use super::read::{Folder, Found, ReadError, chain_of};
use super::verify::Report;
use super::*;
use crate::config::Durability;
use crate::record::Recorded;

fn settings(dir: &Path) -> config::Audit {
    config::Audit {
        durability: Durability::Sync,
        segment_bytes: 4_096,
        queue_bytes: 64 << 10,
        ..config::Audit::at(dir)
    }
}

/// The same key each time.
fn signing() -> SigningKey {
    SigningKey::from_text(&b"5e".repeat(32)).unwrap()
}

fn open(settings: &config::Audit, writers: usize) -> Result<Audit, AuditError> {
    Audit::open(settings, Keys { signing: signing(), encryption: None }, writers)
}

fn verify(dir: &Path, held: Option<[u8; 32]>) -> Result<Report, ReadError> {
    Folder::new(dir).verify(&[signing().public()], held)
}

fn tail(dir: &Path, count: usize) -> Result<Vec<Found>, ReadError> {
    Ok(Folder::new(dir).tail(count)?.0)
}

fn subject(found: &Found) -> &str {
    let Recorded::Admin { subject, .. } = &found.record.event else { panic!("{found:?}") };
    subject
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
    let audit = open(&settings(dir.path()), 2).unwrap();
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
    assert_eq!((last.len(), subject(&last[1])), (2, "number 199"));
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
    assert!(matches!(edited, Err(ReadError::Segment(..))), "{edited:?}");
    let missing = spoil(&|paths| fs::remove_file(&paths[1]).unwrap());
    assert!(matches!(missing, Err(ReadError::Gap(_))), "{missing:?}");
    let first = spoil(&|paths| {
        let second = fs::read(&paths[1]).unwrap();
        fs::write(&paths[0], second).unwrap();
    });
    assert!(first.is_err(), "{first:?}");
    let cut = spoil(&|paths| {
        let bytes = fs::read(&paths[0]).unwrap();
        fs::write(&paths[0], &bytes[..bytes.len() - 3]).unwrap();
    });
    assert!(matches!(cut, Err(ReadError::Gap(_) | ReadError::Truncated(_))), "{cut:?}");
    let swapped = spoil(&|paths| {
        let (first, second) = (fs::read(&paths[1]).unwrap(), fs::read(&paths[2]).unwrap());
        fs::write(&paths[1], second).unwrap();
        fs::write(&paths[2], first).unwrap();
    });
    assert!(matches!(swapped, Err(ReadError::Gap(_))), "{swapped:?}");
    let renamed = spoil(&|paths| {
        fs::rename(paths.last().unwrap(), paths[0].with_file_name("0000000099.rgseg")).unwrap();
    });
    assert!(matches!(renamed, Err(ReadError::Gap(_))), "{renamed:?}");
}

/// Whichever byte is changed: it is an error, or (of the last frame's length) a torn tail.
#[test]
fn no_byte_can_be_changed() {
    let dir = filled();
    let good = verify(dir.path(), None).unwrap();
    assert_eq!((good.unsigned_records, good.torn_bytes), (0, 0));
    for path in segment::list(dir.path()).unwrap() {
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(5).chain(0..80) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(&path, changed).unwrap();
            let found = verify(dir.path(), None);
            let told = found.as_ref().map_or(true, |report| report.torn_bytes > 0);
            assert!(told, "{} byte {at}: {found:?}", path.display());
        }
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(verify(dir.path(), None).unwrap(), good);
}

/// Where each frame of a segment ends, the header before them.
fn ends(path: &Path) -> Vec<usize> {
    let mut frames = frames::Frames::open(path).unwrap();
    let mut ends = vec![usize::try_from(frames.at).unwrap()];
    while frames.next().unwrap().is_some() {
        ends.push(usize::try_from(frames.at).unwrap());
    }
    ends
}

/// Cut off at the end of a frame nothing looks torn: then the checkpoints tell, or the chain's value that was held.
#[test]
fn a_cut_between_frames_is_found() {
    let dir = filled();
    let held = chain_of(&verify(dir.path(), None).unwrap().chain);
    let paths = segment::list(dir.path()).unwrap();
    let bytes = fs::read(&paths[1]).unwrap();
    let all = ends(&paths[1]);
    for end in &all[..all.len() - 1] {
        fs::write(&paths[1], &bytes[..*end]).unwrap();
        let found = verify(dir.path(), None);
        assert!(matches!(found, Err(ReadError::Gap(_) | ReadError::Unsigned(_))), "{found:?}");
    }
    fs::write(&paths[1], bytes).unwrap();
    let last = paths.last().unwrap();
    let bytes = fs::read(last).unwrap();
    let all = ends(last);
    for end in &all[..all.len() - 1] {
        fs::write(last, &bytes[..*end]).unwrap();
        let found = verify(dir.path(), held);
        assert!(matches!(found, Err(ReadError::Lost(..))), "{found:?}");
        // without a value that was held, what lies behind the last checkpoint is counted
        let report = verify(dir.path(), None).unwrap();
        let whole = *end == all[0];
        assert_eq!(report.unsigned_records == 0, whole, "{report:?}");
    }
}

/// Whoever can write to the folder can make a chain anew, but not its signatures.
#[test]
fn a_record_made_anew_has_no_good_signature() {
    let dir = tempfile::tempdir().unwrap();
    let forged = Audit::open(&settings(dir.path()), Keys::generate().unwrap(), 1).unwrap();
    forged.writer(0).record(&admin("nothing happened")).unwrap();
    forged.close();
    let found = verify(dir.path(), None);
    let Err(ReadError::Segment(path, SegmentError::Signer(at, _))) = &found else {
        panic!("{found:?}")
    };
    assert!(path.ends_with("0000000001.rgseg") && *at > 0);
    let text = found.unwrap_err().to_string();
    assert!(text.contains("byte") && text.contains("--key"), "{text}");
    // a checkpoint of elsewhere, put in with the chain made to fit
    let path = segment::list(dir.path()).unwrap().remove(0);
    let honest = filled();
    let theirs = segment::list(honest.path()).unwrap().remove(0);
    let (ours, end) = (fs::read(&path).unwrap(), *ends(&path).iter().rev().nth(1).unwrap());
    let scanned = scan(&path, None, |_| {}).unwrap();
    let from = *ends(&theirs).iter().rev().nth(1).unwrap();
    let checkpoint = fs::read(&theirs).unwrap()[from + frame::HEAD..].to_vec();
    let mut forged = ours[..end].to_vec();
    frame::put(&scanned.last.unwrap().chain, frame::CHECKPOINT, &checkpoint, &mut forged);
    fs::write(&path, forged).unwrap();
    let found = verify(dir.path(), None);
    let is_wrong = |error: &SegmentError| matches!(error, SegmentError::Signature(_));
    assert!(matches!(&found, Err(ReadError::Segment(_, why)) if is_wrong(why)), "{found:?}");
}

#[test]
fn keys_change_and_both_are_asked_for() {
    let dir = filled();
    let other = SigningKey::from_text(&b"6f".repeat(32)).unwrap();
    let public = other.public();
    let keys = Keys { signing: other, encryption: None };
    Audit::open(&settings(dir.path()), keys, 1).unwrap().close();
    let told = tail(dir.path(), 1).unwrap();
    assert!(subject(&told[0]).contains(&public.to_string()), "{told:?}");
    assert!(verify(dir.path(), None).is_err());
    let folder = Folder::new(dir.path());
    assert!(folder.verify(&[public], None).is_err());
    let report = folder.verify(&[public, signing().public()], None).unwrap();
    assert_eq!(report.last_checkpoint.unwrap().key, public);
}

#[test]
fn what_was_written_is_signed_by_count_and_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let counted = config::Audit { checkpoint_records: 3, ..settings(dir.path()) };
    let audit = open(&counted, 1).unwrap();
    let mut writer = audit.writer(0);
    let mut write = |subject: &str| {
        let ticket = writer.append(&admin(subject));
        wait(writer.durable(ticket)).unwrap();
        verify(dir.path(), None).unwrap()
    };
    assert_eq!(write("1").checkpoints, 0);
    assert_eq!(write("2").unsigned_records, 2);
    assert_eq!((write("3").checkpoints, write("4").unsigned_records), (1, 1));
    audit.close();
    assert_eq!(verify(dir.path(), None).unwrap().unsigned_records, 0);
    let timed = config::Audit { checkpoint_s: 1, ..settings(dir.path()) };
    let audit = open(&timed, 1).unwrap();
    audit.writer(0).record(&admin("5")).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while verify(dir.path(), None).unwrap().checkpoints < 3 {
        assert!(std::time::Instant::now() < deadline, "no checkpoint after a second");
        std::thread::sleep(Duration::from_millis(20));
    }
    // what a crash left unsigned is signed as soon as the next start has said so
    audit.close();
    let last = segment::list(dir.path()).unwrap().pop().unwrap();
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..*ends(&last).iter().rev().nth(1).unwrap()]).unwrap();
    let before = verify(dir.path(), None).unwrap();
    assert_eq!(before.unsigned_records, 1);
    let audit = open(&settings(dir.path()), 1).unwrap();
    while verify(dir.path(), None).unwrap().checkpoints == before.checkpoints {
        assert!(std::time::Instant::now() < deadline, "no checkpoint at the start");
        std::thread::sleep(Duration::from_millis(20));
    }
    audit.close();
    let audit = open(&timed, 1).unwrap();
    let quiet = verify(dir.path(), None).unwrap();
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(verify(dir.path(), None).unwrap(), quiet, "nothing new, nothing to sign");
    audit.close();
}

/// A segment of format 2, as the gateway wrote it before; the chain's value behind it.
fn old_segment(dir: &Path, number: u64, before: Chain, subjects: &[&str]) -> Chain {
    let mut bytes = b"RGSEG\0\0\x02".to_vec();
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&before);
    bytes.extend_from_slice(&1_i64.to_le_bytes());
    let mut chain = *blake3::hash(&bytes).as_bytes();
    for (at, subject) in subjects.iter().enumerate() {
        let mut record = vec![0; 4];
        crate::record::encode(0, at as u64, &admin(subject), &mut record);
        let len = u32::try_from(record.len() - 4).unwrap();
        record[..4].copy_from_slice(&len.to_le_bytes());
        chain = frame::put(&chain, frame::OLD, &record, &mut bytes);
    }
    fs::write(segment::path(dir, number), bytes).unwrap();
    chain
}

#[test]
fn segments_of_the_format_before_are_read_and_followed() {
    let dir = tempfile::tempdir().unwrap();
    let chain = old_segment(dir.path(), 1, [0; 32], &["a", "b"]);
    old_segment(dir.path(), 2, chain, &["c"]);
    let old = verify(dir.path(), None).unwrap();
    assert_eq!((old.records, old.unsigned_records, old.last_checkpoint), (3, 3, None));
    let last = segment::path(dir.path(), 2);
    fs::OpenOptions::new().append(true).open(&last).unwrap().set_len(100).unwrap();
    old_segment(dir.path(), 2, chain, &["c"]);
    let audit = open(&settings(dir.path()), 1).unwrap();
    audit.writer(0).record(&admin("d")).unwrap();
    audit.close();
    let all: Vec<String> = Folder::new(dir.path())
        .records()
        .unwrap()
        .map(|found| subject(&found.unwrap()).to_owned())
        .collect();
    assert_eq!(all, ["a", "b", "c", "d"]);
    let report = verify(dir.path(), chain_of(&old.chain)).unwrap();
    assert_eq!((report.segments, report.unsigned_records), (3, 0), "the signature covers them");
    let mut bytes = fs::read(segment::path(dir.path(), 1)).unwrap();
    bytes[100] ^= 1;
    fs::write(segment::path(dir.path(), 1), bytes).unwrap();
    assert!(verify(dir.path(), None).is_err());
    // and none of the old format may follow
    old_segment(dir.path(), 1, [0; 32], &["a", "b"]);
    let behind = read::chain_of(&report.chain).unwrap();
    old_segment(dir.path(), 4, behind, &["e"]);
    assert!(matches!(verify(dir.path(), None), Err(ReadError::Gap(_))));
}

fn encryption(byte: &[u8]) -> keys::EncryptionKey {
    keys::EncryptionKey::from_text(&byte.repeat(32)).unwrap()
}

#[test]
fn what_is_encrypted_is_verified_without_the_key_and_read_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let write = |key: Option<&[u8]>, text: &str| {
        let keys = Keys { signing: signing(), encryption: key.map(encryption) };
        let audit = Audit::open(&settings(dir.path()), keys, 1).unwrap();
        audit.writer(0).record(&admin(text)).unwrap();
        audit.close();
    };
    write(None, "in the clear");
    write(Some(b"ab"), "hidden once");
    write(Some(b"ab"), "hidden twice");
    write(Some(b"cd"), "hidden otherwise");
    write(None, "in the clear again");
    let report = verify(dir.path(), None).unwrap();
    assert_eq!((report.records, report.segments, report.unsigned_records), (5, 4, 0));
    let bytes: Vec<u8> = segment::list(dir.path())
        .unwrap()
        .iter()
        .flat_map(|path| fs::read(path).unwrap())
        .collect();
    let has = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(has("in the clear again") && !has("hidden"));
    let folder = Folder::new(dir.path());
    let error = folder.tail(5).err().unwrap().to_string();
    assert!(error.contains("audit.old_encryption_keys"), "{error}");
    let folder = folder.with_keys(vec![encryption(b"cd"), encryption(b"ab")]);
    let all = folder.tail(5).unwrap().0;
    assert_eq!(all.iter().map(subject).next_back(), Some("in the clear again"));
    assert_eq!(subject(&all[2]), "hidden twice");
}

#[test]
fn records_that_come_later_are_read_on() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(&settings(dir.path()), 1).unwrap();
    let mut writer = audit.writer(0);
    let mut write = |subject: &str| {
        let ticket = writer.append(&admin(subject));
        wait(writer.durable(ticket)).unwrap();
    };
    let folder = Folder::new(dir.path());
    let mut records = folder.records().unwrap();
    assert!(records.next().is_none(), "nothing yet");
    write("first");
    assert_eq!(subject(&records.next().unwrap().unwrap()), "first");
    assert!(records.next().is_none());
    for at in 0..100 {
        write(&format!("number {at} {}", "x".repeat(100)));
        let found = records.next().unwrap().unwrap();
        assert!(subject(&found).starts_with(&format!("number {at} ")), "{found:?}");
        assert!(records.next().is_none());
    }
    assert!(segment::list(dir.path()).unwrap().len() > 2);
    audit.close();
}

#[test]
fn a_torn_tail_is_cut_at_start_and_the_chain_goes_on() {
    let dir = filled();
    let last = segment::list(dir.path()).unwrap().pop().unwrap();
    let bytes = fs::read(&last).unwrap();
    // the last checkpoint is torn, so that what it vouched for is not signed
    fs::write(&last, &bytes[..bytes.len() - 3]).unwrap();
    let report = verify(dir.path(), None).unwrap();
    assert!(report.torn_bytes > 0 && report.unsigned_records > 0, "{report:?}");
    let audit = open(&settings(dir.path()), 2).unwrap();
    audit.close();
    let report = verify(dir.path(), None).unwrap();
    assert_eq!((report.records, report.torn_bytes, report.unsigned_records), (202, 0, 0));
    let told = tail(dir.path(), 2).unwrap();
    assert!(subject(&told[0]).contains("146 bytes"), "{told:?}");
    assert!(subject(&told[1]).contains("records"), "{told:?}");
}

#[test]
fn two_gateways_do_not_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(&settings(dir.path()), 1).unwrap();
    let second = open(&settings(dir.path()), 1).err().unwrap().to_string();
    assert!(second.contains("audit.dir: another gateway"), "{second}");
    first.close();
    open(&settings(dir.path()), 1).unwrap().close();
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
        open(&settings(dir.path()), 2).unwrap().close();
        let report = verify(dir.path(), None).unwrap();
        assert_eq!((report.records, report.torn_bytes), (before + 1, 0), "and it is told");
        assert!(!next.exists() && last.exists());
    }
}

#[test]
fn missing_beginnings_and_ends_are_found() {
    let dir = filled();
    let all = verify(dir.path(), None).unwrap();
    let held = chain_of(&all.chain);
    assert!(held.is_some() && chain_of("12").is_none());
    assert!(verify(dir.path(), held).is_ok());
    let paths = segment::list(dir.path()).unwrap();
    let last = fs::read(paths.last().unwrap()).unwrap();
    // exactly at a record's end, where nothing looks torn
    let audit = open(&settings(dir.path()), 1).unwrap();
    audit.writer(0).record(&admin("one more")).unwrap();
    audit.close();
    let longer = chain_of(&verify(dir.path(), held).unwrap().chain);
    fs::remove_file(segment::list(dir.path()).unwrap().pop().unwrap()).unwrap();
    fs::write(paths.last().unwrap(), last).unwrap();
    let cut = verify(dir.path(), longer);
    assert!(matches!(cut, Err(ReadError::Lost(..))), "{cut:?}");
    assert!(verify(dir.path(), held).is_ok());
    fs::remove_file(&paths[0]).unwrap();
    let beheaded = verify(dir.path(), None);
    assert!(matches!(beheaded, Err(ReadError::Beheaded(_, 2))), "{beheaded:?}");
    assert!(tail(dir.path(), 1).is_ok(), "what is there can still be read");
    paths.iter().skip(1).for_each(|path| fs::remove_file(path).unwrap());
    assert!(matches!(verify(dir.path(), None), Err(ReadError::Empty(_))));
}

#[test]
fn a_deleted_segment_is_noticed_and_the_record_goes_on_in_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(&settings(dir.path()), 1).unwrap();
    let mut writer = audit.writer(0);
    let mut write = |subject: &str| {
        let ticket = writer.append(&admin(subject));
        wait(writer.durable(ticket)).unwrap();
    };
    write("first");
    fs::remove_file(segment::list(dir.path()).unwrap().pop().unwrap()).unwrap();
    write("second");
    assert_eq!(subject(&tail(dir.path(), 1).unwrap()[0]), "second");
    assert!(matches!(verify(dir.path(), None), Err(ReadError::Beheaded(_, 2))));
    audit.close();
}

#[test]
fn a_changed_last_segment_is_refused_at_start() {
    let dir = filled();
    let last = segment::list(dir.path()).unwrap().pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[100] ^= 1;
    fs::write(&last, bytes).unwrap();
    let error = open(&settings(dir.path()), 1).err().unwrap().to_string();
    assert!(error.contains("audit.dir") && error.contains("changed"), "{error}");
}

#[test]
fn a_full_queue_refuses_and_gives_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = settings(dir.path());
    small.queue_bytes = 8 << 10;
    let audit = open(&small, 1).unwrap();
    let writer = audit.writer(0);
    let first = writer.reserve().unwrap();
    assert_eq!((writer.has_room(4_096), writer.has_room(4_097)), (Ok(()), Err(AuditFull::Queue)));
    let _second = writer.reserve().unwrap();
    assert_eq!(writer.reserve().err(), Some(AuditFull::Queue));
    drop(first);
    assert!(writer.reserve().is_ok());
    audit.close();
}
