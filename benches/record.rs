//! What the record costs: a worker for each statement (room, both records, handing over), and the audit thread for each
//! record (packing, chaining, writing). The thread's share is measured as the process's CPU less the worker's.

#![allow(clippy::print_stdout, reason = "what criterion does not measure is printed")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rowgate::audit::keys::{EncryptionKey, Keys};
use rowgate::audit::{Audit, Writer};
use rowgate::config;
use rowgate::record::{Completion, Event, Intent};
use rowgate::sql::{Digest, Verb};

/// Statements that a turn has.
const TURN: u64 = 32;
/// Statements a second at which the thread is measured, as a busy worker has them.
const RATE: u64 = 50_000;
const SECONDS: u64 = 4;

fn statement(writer: &mut Writer, statement: u64) -> bool {
    let Ok(_permit) = writer.reserve() else { return false };
    let rules = ["agents-read-and-write".to_owned(), "agents-pii".to_owned()];
    let tables = ["shop.customers".to_owned()];
    let session = (1 << 52) + statement % 40;
    let at_us = 1_796_000_000_000_000 + i64::try_from(statement).unwrap_or(0) * 20;
    writer.append(&Event::Intent(Intent {
        session,
        statement,
        at_us,
        identity: "support-bot",
        target: "shop",
        schema: Some("shop"),
        command: "query",
        verb: Verb::Select,
        digest: Digest([u8::try_from(statement % 7).unwrap_or(0); 16]),
        text: "SELECT id, email, phone, amount_cents FROM customers WHERE id = ?",
        verdict: "mask",
        rules: &rules,
        masked: &[],
        tables: &tables,
        policy_version: "5f2c0c6e7b8f4d53",
        attribute_count: 0,
        attributes: &[],
    }));
    writer.append(&Event::Completion(Completion {
        session,
        statement,
        at_us: at_us + 200,
        rows: 1,
        bytes: 180 + statement % 17,
        masked_cells: 2,
        error_code: 0,
        queue_us: 0,
        decide_us: 4 + statement % 3,
        hold_us: 0,
        upstream_us: 150 + statement % 91,
        total_us: 190 + statement % 91,
    }));
    true
}

fn opened(encrypted: bool) -> (tempfile::TempDir, Audit) {
    let dir = tempfile::tempdir().expect("a folder");
    let settings = config::Audit { queue_bytes: 64 << 20, ..config::Audit::at(dir.path()) };
    let mut keys = Keys::generate().expect("randomness");
    keys.encryption = encrypted.then(|| EncryptionKey::from_text(&b"ab".repeat(32))).flatten();
    let audit = Audit::open(&settings, keys, 1).expect("a record");
    (dir, audit)
}

fn worker(c: &mut Criterion) {
    let (_dir, audit) = opened(false);
    let mut writer = audit.writer(0);
    let mut group = c.benchmark_group("record");
    group.throughput(Throughput::Elements(TURN));
    group.bench_function("a turn of 32 statements, at the worker", |b| {
        b.iter_custom(|turns| {
            let (mut spent, mut at) = (Duration::ZERO, 0);
            for _ in 0..turns {
                // what a full queue costs is not the question
                while audit.state().queued_bytes > 32 << 20 {
                    std::thread::sleep(Duration::from_millis(5));
                }
                let since = Instant::now();
                for _ in 0..TURN {
                    at += 1;
                    black_box(statement(&mut writer, at));
                }
                writer.flush();
                spent += since.elapsed();
            }
            spent
        });
    });
    group.finish();
    audit.close();
}

/// User and system time of this process, or of this thread.
fn cpu(who: libc::c_int) -> Duration {
    // SAFETY: the structure is plain numbers, and the call fills all of it.
    #[allow(unsafe_code, reason = "the system's call takes an address")]
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(who, &raw mut usage);
        usage
    };
    let time = |time: libc::timeval| {
        Duration::from_micros(u64::try_from(time.tv_sec * 1_000_000 + time.tv_usec).unwrap_or(0))
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn thread(_: &mut Criterion) {
    for encrypted in [false, true] {
        let (dir, audit) = opened(encrypted);
        let mut writer = audit.writer(0);
        let (all, own) = (cpu(libc::RUSAGE_SELF), cpu(libc::RUSAGE_THREAD));
        let since = Instant::now();
        let mut done = 0;
        while done < RATE * SECONDS {
            for _ in 0..TURN {
                done += 1;
                assert!(statement(&mut writer, done), "the queue is full");
            }
            writer.flush();
            let due = Duration::from_micros(done * 1_000_000 / RATE);
            std::thread::sleep(due.saturating_sub(since.elapsed()));
        }
        audit.close();
        let own = cpu(libc::RUSAGE_THREAD).saturating_sub(own);
        let theirs = cpu(libc::RUSAGE_SELF).saturating_sub(all).saturating_sub(own);
        let bytes: u64 = std::fs::read_dir(dir.path())
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
            .sum();
        println!(
            "record/the audit thread at {RATE} statements a second{}: {} ns CPU and {} bytes on disk a statement",
            if encrypted { ", encrypted" } else { "" },
            theirs.as_nanos() / u128::from(done),
            bytes / done,
        );
    }
}

criterion_group!(benches, worker, thread);
criterion_main!(benches);
