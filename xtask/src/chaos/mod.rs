//! `cargo xtask chaos`: mixed load by stock drivers for minutes, while clients are killed, the database is restarted, the network
//! is cut, and the policy is reloaded. It says whether anything hung, leaked, was mixed up, or ended in an error that no
//! guide names, and whether the record holds.
//!
//! Memory and descriptors are compared at rest: after a warm-up under the same load all clients end, and again at the
//! end. Between the two every session is another one, so what leaks shows; what is merely busy does not. A short run tells
//! its memory and does not judge it: the first minutes are those in which caches fill and threads get their heaps.

mod clients;
mod database;
mod network;
mod plan;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use xtask::gateway::{self, Gateway, Options};
use xtask::mariadb::free_port;
use xtask::setup;
use xtask::sh::{self, step};

use clients::{Clients, Route, Tally};
use database::Database;
use network::Network;
pub(crate) use plan::Plan;
use plan::{Deed, major_deeds, minor_deeds};

use crate::plugins;

/// Whether it can run here.
pub(crate) fn can_run() -> bool {
    Network::is_allowed()
}

/// Memory at rest may grow by this much, in percent.
const MOST_GROWTH: f64 = 5.0;

/// Descriptors of the store's files: two for each of its connections, and one of the memory that they share.
const MOST_OF_STORE: u64 = 2 * 4 + 1;

/// After the database is back, sessions may still find out that it was away.
const GRACE: Duration = Duration::from_secs(20);

/// The same where the other side vanished without a word: as long as keepalive takes to find that.
const LONG_GRACE: Duration = Duration::from_secs(150);

/// Runs it all and prints the summary.
pub(crate) fn chaos(plan: &Plan) -> Result<()> {
    setup::ensure(&setup::DATABASE)?;
    setup::ensure(&[("ip", "iproute2")])?;
    let python = setup::pymysql()?;
    plugins::build()?;
    step("building rowgate and the load of mysql_async");
    sh::run_words(&["cargo", "build", "--bin", "rowgate", "--example", "chaos-load"])?;
    let folder = tempfile::tempdir()?;
    let mut world = World::start(plan, folder.path(), python)?;
    let outcome = world.run(plan);
    if outcome.is_err() {
        let kept = folder.keep();
        println!("the gateway's log: {}", kept.join("gateway/rowgate.log").display());
    }
    outcome
}

struct World {
    network: Network,
    database: Database,
    gateway: Gateway,
    clients: Clients,
    tally: Arc<Mutex<Tally>>,
    began: Instant,
    reloads: u64,
    done: Vec<String>,
    /// Memory under load, in KiB.
    samples: Vec<u64>,
    random: u64,
}

/// What the gateway holds when nobody uses it.
#[derive(Clone, Debug)]
struct Rest {
    rss_kib: u64,
    /// Descriptors, without those of pooled connections, to the database and to the store.
    descriptors: u64,
    /// What all of them are, pooled connections too, and how many of each.
    kinds: BTreeMap<String, u64>,
}

impl World {
    fn start(plan: &Plan, folder: &Path, python: PathBuf) -> Result<Self> {
        step("a network, a database and a gateway of its own");
        let binary = plan.binary.clone().unwrap_or_else(|| sh::target_dir().join("debug/rowgate"));
        let certificate = folder.join("certificate");
        let host = Network::address().to_string();
        let mut made = std::process::Command::new(&binary);
        made.args(["cert", "self-signed", "--host", &host, "--out"]).arg(&certificate);
        sh::capture(&mut made)?;
        let network = Network::make()?;
        let database = Database::start(&folder.join("mariadb"), &network, &certificate)?;
        ensure!(Database::is_reachable(), "the database can't be reached through its network");
        let dir = folder.join("gateway");
        let (port, admin_port) = (free_port()?, free_port()?);
        let mut options = Options::new(1);
        "async".clone_into(&mut options.durability);
        // Nobody answers what is held.
        options.wait_s = 2;
        options.upstream_tls = format!(
            "tls = \"verify-identity\"\ntls_ca = \"{}/rowgate.crt\"",
            certificate.display()
        );
        gateway::prepare(&dir, port, admin_port, &options)?;
        let file = dir.join("rowgate.toml");
        let text = fs::read_to_string(&file)?;
        let address = Database::address();
        fs::write(&file, text.replace("\"127.0.0.1:1\"", &format!("\"{address}\"")))?;
        let binary = wrapped(&binary, folder, plan.allocator_defaults)?;
        let mut gateway = Gateway::start_unready(&binary, &dir, port, admin_port)?;
        gateway.wait_until("/readyz", Duration::from_mins(2))?;
        let (agent, worker) =
            (gateway.token("agent", "agents")?, gateway.token("worker", "dumpers")?);
        let tally = Arc::new(Mutex::new(Tally::new()?));
        let load = folder.join("chaos-load");
        fs::copy(sh::target_dir().join("debug/examples/chaos-load"), &load)?;
        let route = Route { port, agent, worker, python, load };
        let clients = Clients::new(route, Arc::clone(&tally));
        Ok(Self {
            network,
            database,
            gateway,
            clients,
            tally,
            began: Instant::now(),
            reloads: 0,
            done: Vec::new(),
            samples: Vec::new(),
            random: 0,
        })
    }

    fn run(&mut self, plan: &Plan) -> Result<()> {
        self.random = plan.seed | 1;
        let whole = Duration::from_secs(u64::from(plan.minutes) * 60);
        let warm_up = (whole / 6).clamp(Duration::from_secs(20), Duration::from_secs(90));
        step(&format!("warming up for {} s, seed {}", warm_up.as_secs(), plan.seed));
        self.began = Instant::now();
        self.clients.start()?;
        self.go_through(&minor_deeds(warm_up), warm_up)?;
        let before = self.rest()?;
        step(&format!("{} of it", minutes(whole.saturating_sub(warm_up))));
        self.began = Instant::now();
        self.samples.clear();
        self.clients.start()?;
        let main = whole.saturating_sub(warm_up);
        let mut deeds = minor_deeds(main);
        deeds.extend(major_deeds(main));
        deeds.sort_by_key(|(at, _)| *at);
        self.go_through(&deeds, main)?;
        let after = self.rest()?;
        self.judge(&before, &after, plan.judges_memory())
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is due when it is due, and says how things stand every few seconds.
    fn go_through(&mut self, deeds: &[(Duration, Deed)], until: Duration) -> Result<()> {
        let (mut deeds, mut said) = (deeds.iter().peekable(), Duration::ZERO);
        while self.began.elapsed() < until {
            while let Some((_, deed)) = deeds.next_if(|(at, _)| *at <= self.began.elapsed()) {
                self.carry_out(*deed).with_context(|| format!("{deed:?}"))?;
            }
            if self.began.elapsed() >= said {
                said = self.began.elapsed() + Duration::from_secs(5);
                self.progress()?;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn progress(&mut self) -> Result<()> {
        let rss = self.rss_kib()?;
        self.samples.push(rss);
        let sessions = self.metric("rowgate_sessions");
        let descriptors = self.descriptors()?;
        let tally = self.tally();
        let errors: u64 = tally.errors.values().sum();
        println!(
            "    {:4} s  {:7} answers  {errors:5} errors  {:3} clients killed  {sessions:3} sessions  {descriptors:3} \
             descriptors  {:3} MiB{}",
            self.began.elapsed().as_secs(),
            tally.right,
            tally.killed,
            rss >> 10,
            if tally.violations.is_empty() { "" } else { "  VIOLATIONS" },
        );
        if let Some(first) = tally.violations.first() {
            println!("          {first}");
        }
        Ok(())
    }

    fn carry_out(&mut self, deed: Deed) -> Result<()> {
        if !matches!(deed, Deed::KillClient | Deed::Reload) {
            let line = format!("{:4} s  {deed:?}", self.began.elapsed().as_secs());
            println!("    {line}");
            self.done.push(line);
            self.tally().disturb();
        }
        match deed {
            Deed::KillClient => {
                let which = self.random();
                return self.clients.kill_one(which);
            }
            Deed::Reload => return self.reload(),
            Deed::Restart { crash } => self.database.restart(&self.network, crash)?,
            Deed::Cut => {
                self.network.cut()?;
                std::thread::sleep(Duration::from_secs(8));
                self.network.join()?;
            }
            Deed::RestartUnheard => {
                self.network.cut()?;
                self.database.end(true)?;
                self.database.begin(&self.network)?;
                self.network.join()?;
                self.tally().settle(LONG_GRACE);
                return Ok(());
            }
        }
        self.tally().settle(GRACE);
        Ok(())
    }

    /// Another version of the same policy.
    fn reload(&mut self) -> Result<()> {
        self.reloads += 1;
        let file = self.gateway.dir().join("policy.cedar");
        let text = fs::read_to_string(&file)?;
        let text = text.split("\n// version").next().unwrap_or_default();
        fs::write(&file, format!("{text}\n// version {}\n", self.reloads))?;
        self.gateway.cli_ok(&["reload"]).map(drop)
    }

    fn random(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 33).unwrap_or(0)
    }

    /// Ends all clients and waits until the gateway holds nothing for them any more.
    fn rest(&mut self) -> Result<Rest> {
        step("all clients end");
        let hung = self.clients.stop()?;
        ensure!(hung == 0, "{hung} clients did not end: they hang");
        self.wait_until_quiet()?;
        // What one thread frees of another's goes back when that one next allocates: each gets something to do.
        self.reload()?;
        self.clients.start_few()?;
        std::thread::sleep(Duration::from_secs(3));
        self.reload()?;
        std::thread::sleep(Duration::from_secs(3));
        ensure!(self.clients.stop()? == 0, "clients did not end: they hang");
        self.wait_until_quiet()?;
        // Freed memory goes back to the system in its own time.
        let mut last = Vec::new();
        for _ in 0..60 {
            std::thread::sleep(Duration::from_millis(500));
            last.push(self.rss_kib()?);
            let recent = last.iter().rev().take(10);
            let (low, high) = (recent.clone().min().copied(), recent.max().copied());
            if last.len() >= 10 && high.unwrap_or(0) - low.unwrap_or(0) < 200 {
                break;
            }
        }
        let (descriptors, pooled) = self.own_descriptors()?;
        let rest =
            Rest { rss_kib: last.last().copied().unwrap_or(0), descriptors, kinds: self.kinds()? };
        println!(
            "    at rest: {} KiB, {descriptors} descriptors beside {pooled} pooled",
            rest.rss_kib
        );
        Ok(rest)
    }

    /// Descriptors beside those of pooled connections, and how many of these there are.
    fn own_descriptors(&self) -> Result<(u64, u64)> {
        let pooled = || self.metric("rowgate_upstream_connections");
        let mut least = None;
        for _ in 0..20 {
            // The question itself takes one for a moment, and the pool lets go of what is idle for long.
            let before = pooled();
            std::thread::sleep(Duration::from_millis(100));
            let kinds = self.kinds()?;
            let all: u64 = kinds.values().sum();
            // The store's pool opens its few connections as they are needed, and keeps them.
            let store = kinds.iter().filter(|(kind, _)| kind.contains("/rowgate.db"));
            let store = store.map(|(_, count)| *count).sum::<u64>();
            ensure!(store <= MOST_OF_STORE, "{store} descriptors of the store's files");
            if before == pooled() {
                let seen = (all.saturating_sub(before + store), before);
                least = Some(least.map_or(seen, |least: (u64, u64)| least.min(seen)));
            }
        }
        least.context("the pool never rests")
    }

    fn wait_until_quiet(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_mins(3);
        loop {
            let (sessions, running) = (self.metric("rowgate_sessions"), self.database.running()?);
            if sessions == 0 && running.trim().is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "nobody is there any more, but {sessions} sessions are, and the database runs {running:?}"
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// 0 where it is not there.
    fn metric(&self, name: &str) -> u64 {
        let value = self.gateway.metric(name).ok().flatten().unwrap_or(0.0);
        format!("{value:.0}").parse().unwrap_or(0)
    }

    fn rss_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.gateway.pid()))
            .context("the gateway is gone")?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)).context("no VmRSS")?;
        Ok(kib.parse()?)
    }

    /// What its descriptors are, as the system names them, without the numbers that tell two of a kind apart.
    fn kinds(&self) -> Result<BTreeMap<String, u64>> {
        let mut kinds = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", self.gateway.pid()))? {
            // One that is closed meanwhile is none.
            let Ok(name) = fs::read_link(entry?.path()) else { continue };
            let name = name.to_string_lossy();
            *kinds.entry(name.split(":[").next().unwrap_or_default().to_owned()).or_default() += 1;
        }
        Ok(kinds)
    }

    fn descriptors(&self) -> Result<u64> {
        Ok(self.kinds()?.values().sum())
    }

    fn judge(&mut self, before: &Rest, after: &Rest, judges_memory: bool) -> Result<()> {
        step("the record");
        let status = self.gateway.terminate()?;
        let verified = self.gateway.cli(&["audit", "verify"])?;
        let said = [&verified.stdout[..], &verified.stderr].concat();
        let panics = self.gateway.log().matches("panicked").count();
        let kib = |kib: u64| f64::from(u32::try_from(kib).unwrap_or(u32::MAX));
        let growth = 100.0 * (kib(after.rss_kib) / kib(before.rss_kib) - 1.0);
        let tally = self.tally();
        let hung = tally.violations.iter().filter(|what| what.starts_with("hung")).count();
        let undocumented =
            tally.violations.iter().filter(|what| what.starts_with("an error")).count();
        let crossed = tally.violations.len() - hung - undocumented;
        let rows = [
            ("nothing hung", hung == 0, format!("{hung} statements, {} answers", tally.right)),
            ("no sessions crossed, all masked", crossed == 0, format!("{crossed} violations")),
            (
                "every error is documented",
                undocumented == 0,
                format!("{undocumented} are not, of {}", tally.errors.values().sum::<u64>()),
            ),
            (
                "memory is flat",
                growth <= MOST_GROWTH || !judges_memory,
                format!(
                    "{} to {} KiB at rest, {growth:+.1} %{}",
                    before.rss_kib,
                    after.rss_kib,
                    if judges_memory { "" } else { ": not judged after so short a time" }
                ),
            ),
            (
                "descriptors are flat",
                // One more may be the schema's own connection, which comes and goes with the database.
                after.descriptors <= before.descriptors + 1,
                format!(
                    "{} to {} at rest{}",
                    before.descriptors,
                    after.descriptors,
                    grown(&before.kinds, &after.kinds)
                ),
            ),
            (
                "the record verifies",
                verified.status.success(),
                one_line(&String::from_utf8_lossy(&said)),
            ),
            (
                "the drain ended well",
                status.success() && panics == 0,
                format!("{status}, {panics} panics"),
            ),
        ];
        self.tell(&tally, &rows);
        let failed = rows.iter().filter(|(_, holds, _)| !holds).count();
        ensure!(failed == 0, "{failed} of {} checks failed", rows.len());
        Ok(())
    }

    fn tell(&self, tally: &Tally, rows: &[(&str, bool, String)]) {
        let peak = self.samples.iter().max().copied().unwrap_or(0);
        println!(
            "\n  killed {} client processes, reloaded {} times; memory under load at most {} MiB",
            tally.killed,
            self.reloads,
            peak >> 10
        );
        self.done.iter().for_each(|line| println!("  {line}"));
        println!("\n  errors that clients saw:");
        for ((number, tag), count) in &tally.errors {
            println!("  {count:7}  {number} {tag}");
        }
        println!();
        for (what, holds, figure) in rows {
            println!("  {}  {what:34} {figure}", if *holds { "ok    " } else { "FAILED" });
        }
        tally.violations.iter().take(10).for_each(|what| println!("  violation: {what}"));
    }
}

/// A copy of the gateway, so that a build meanwhile changes nothing here; by a wrapper, so that freed memory goes back to
/// the system at once: what a process holds at rest is then what it has not freed. (By its defaults mimalloc gives
/// segments of 32 MiB back when their thread next allocates, which at rest is much later.)
fn wrapped(binary: &Path, folder: &Path, allocator_defaults: bool) -> Result<PathBuf> {
    let (wrapper, copy) = (folder.join("rowgate"), folder.join("rowgate-itself"));
    fs::copy(binary, &copy)?;
    if allocator_defaults {
        return Ok(copy);
    }
    let script = format!("#!/bin/sh\nMIMALLOC_PURGE_DELAY=0 exec '{}' \"$@\"\n", copy.display());
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(wrapper)
}

/// The kinds of descriptors that there are more of.
fn grown(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> String {
    let more =
        after.iter().filter(|(kind, count)| **count > before.get(*kind).copied().unwrap_or(0));
    let named = more.map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ");
    if named.is_empty() { named } else { format!("; more of: {named}") }
}

fn minutes(time: Duration) -> String {
    format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
