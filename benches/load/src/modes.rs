//! What the client does: point selects, streams, both at once, connections one after another, connections at rest.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::wire::{Answer, Login, Wire};
use crate::{Settings, fail, figure, rendezvous};

/// Queries of each connection before it counts as warm: caches filled, an upstream connection bound.
const WARM: i32 = 50;
/// Streams beside which latencies are taken are all under way after this.
const UNDER_WAY: Duration = Duration::from_millis(300);
const ONE_POINT: &str = "SELECT c FROM sbtest1 WHERE id=1";

/// Point selects of `threads` connections for `seconds`.
pub(crate) fn points(settings: &Settings) -> Result<()> {
    let crew = Crew::prepare(settings, settings.threads, point_selects)?;
    rendezvous("ready")?;
    crew.go().finish()?.report_latencies();
    rendezvous("done")
}

/// Rows of `statement`, read `times` over on each of `threads` connections.
pub(crate) fn stream(settings: &Settings) -> Result<()> {
    let times = settings.times;
    let crew = Crew::prepare(settings, settings.threads, move |wire, job, gate| {
        wire.enlarge();
        wire.query(ONE_POINT)?;
        gate.pass();
        let mut tally = Tally::default();
        for _ in 0..times {
            tally.add(wire.query(&job.statement)?);
        }
        Ok(tally)
    })?;
    rendezvous("ready")?;
    crew.go().finish()?.report_bytes();
    rendezvous("done")
}

/// Point selects of `threads` connections beside streams on `streams` more.
pub(crate) fn mixed(settings: &Settings) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let streamers = Crew::prepare(settings, settings.streams, move |wire, job, gate| {
        wire.enlarge();
        wire.query(ONE_POINT)?;
        gate.pass();
        let mut tally = Tally::default();
        while !told.load(Ordering::Relaxed) {
            tally.add(wire.query(&job.statement)?);
        }
        Ok(tally)
    })?;
    let pointers = Crew::prepare(settings, settings.threads, point_selects)?;
    rendezvous("ready")?;
    let streamers = streamers.go();
    thread::sleep(UNDER_WAY);
    let points = pointers.go().finish()?;
    stop.store(true, Ordering::Relaxed);
    streamers.finish()?.report_bytes();
    points.report_latencies();
    rendezvous("done")
}

/// Connect, log in, one query, close; again and again on `threads` threads.
pub(crate) fn cycles(settings: &Settings) -> Result<()> {
    let crew = Crew::prepare(settings, settings.threads, |_, job, gate| {
        // The first fills the caches, TLS tickets too.
        cycle(&job.login)?;
        gate.pass();
        let mut tally = Tally::default();
        let deadline = Instant::now() + job.time;
        let mut before = Instant::now();
        while before < deadline {
            tally.resumed += u64::from(cycle(&job.login)?);
            before = tally.took(before);
        }
        Ok(tally)
    })?;
    rendezvous("ready")?;
    crew.go().finish()?.report_latencies();
    rendezvous("done")
}

/// Whether its TLS session was taken up again.
fn cycle(login: &Login) -> Result<bool> {
    let mut wire = Wire::connect(login)?;
    wire.query(ONE_POINT)?;
    let is_resumed = wire.is_resumed();
    wire.quit()?;
    Ok(is_resumed)
}

/// `threads` connections, logged in, after `times` queries each; then they do nothing. `first` of them are open when the
/// parent looks for the first time.
pub(crate) fn idle(settings: &Settings) -> Result<()> {
    let mut wires = Vec::with_capacity(settings.threads);
    for at in 0..settings.threads {
        if at == settings.first {
            rendezvous("ready")?;
        }
        let mut wire = Wire::connect(&settings.login)?;
        for _ in 0..settings.times {
            wire.query(ONE_POINT)?;
        }
        wires.push(wire);
    }
    rendezvous("done")?;
    wires.into_iter().try_for_each(Wire::quit)
}

fn point_selects(wire: &mut Wire, job: &Job, gate: &Gate) -> Result<Tally> {
    let statement =
        if job.prepared { Some(wire.prepare("SELECT c FROM sbtest1 WHERE id=?")?) } else { None };
    let mut dice = job.seed;
    let mut one = |is_first| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let id = i32::try_from(dice % u64::from(job.rows)).unwrap_or(0) + 1;
        match statement {
            Some(statement) => wire.execute(statement, id, is_first),
            None => wire.query(&format!("SELECT c FROM sbtest1 WHERE id={id}")),
        }
    };
    for at in 0..WARM {
        one(at == 0)?;
    }
    gate.pass();
    let mut tally = Tally::default();
    let deadline = Instant::now() + job.time;
    let mut before = Instant::now();
    while before < deadline {
        tally.add(one(false)?);
        before = tally.took(before);
    }
    Ok(tally)
}

/// What one thread is told.
struct Job {
    login: Login,
    statement: String,
    time: Duration,
    prepared: bool,
    rows: u32,
    seed: u64,
}

/// What a thread did.
#[derive(Default)]
struct Tally {
    bytes: u64,
    rows: u64,
    /// TLS sessions taken up again.
    resumed: u64,
    /// Nanoseconds.
    latencies: Vec<u32>,
    seconds: f64,
}

impl Tally {
    fn add(&mut self, answer: Answer) {
        self.bytes += answer.bytes;
        self.rows += answer.rows;
    }

    /// Notes that one more took from `before` to now, which it gives.
    fn took(&mut self, before: Instant) -> Instant {
        let now = Instant::now();
        self.latencies.push(u32::try_from((now - before).as_nanos()).unwrap_or(u32::MAX));
        now
    }

    fn report_latencies(mut self) {
        self.latencies.sort_unstable();
        figure("operations", self.latencies.len());
        figure("resumed", self.resumed);
        figure("seconds", self.seconds);
        for (name, hundredths) in [("p50_us", 50), ("p99_us", 99)] {
            let at = self.latencies.len().saturating_sub(1) * hundredths / 100;
            figure(name, f64::from(self.latencies.get(at).copied().unwrap_or(0)) / 1000.0);
        }
    }

    fn report_bytes(&self) {
        figure("bytes", self.bytes);
        figure("rows", self.rows);
        figure("stream_seconds", self.seconds);
    }
}

/// Where threads wait: once until all are warm, once for the start.
struct Gate(Barrier);

impl Gate {
    fn pass(&self) {
        self.0.wait();
        self.0.wait();
    }
}

/// Threads that are logged in, warm, and wait for the start.
struct Crew {
    gate: Arc<Gate>,
    threads: Vec<thread::JoinHandle<(Wire, Tally)>>,
    begun: Instant,
}

impl Crew {
    fn prepare<W>(settings: &Settings, size: usize, work: W) -> Result<Self>
    where
        W: Fn(&mut Wire, &Job, &Gate) -> Result<Tally> + Clone + Send + 'static,
    {
        let gate = Arc::new(Gate(Barrier::new(size + 1)));
        let mut threads = Vec::with_capacity(size);
        for at in 1..=size {
            let mut wire = Wire::connect(&settings.login)?;
            let (work, gate) = (work.clone(), Arc::clone(&gate));
            let job = Job {
                login: settings.login.clone(),
                statement: settings.statement.clone(),
                time: Duration::from_secs_f64(settings.seconds),
                prepared: settings.prepared,
                rows: settings.rows,
                seed: 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(at as u64),
            };
            threads.push(thread::spawn(move || match work(&mut wire, &job, &gate) {
                Ok(tally) => (wire, tally),
                // The others wait at the gate and would for ever.
                Err(error) => fail(&error),
            }));
        }
        gate.0.wait();
        Ok(Self { gate, threads, begun: Instant::now() })
    }

    fn go(mut self) -> Self {
        self.gate.0.wait();
        self.begun = Instant::now();
        self
    }

    /// Waits for all; what they did together. Their connections close no sooner than the process ends.
    fn finish(self) -> Result<Tally> {
        let mut all = Tally::default();
        for thread in self.threads {
            let (wire, tally) = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
            std::mem::forget(wire);
            all.add(Answer { rows: tally.rows, bytes: tally.bytes });
            all.resumed += tally.resumed;
            all.latencies.extend(tally.latencies);
        }
        all.seconds = self.begun.elapsed().as_secs_f64();
        Ok(all)
    }
}
