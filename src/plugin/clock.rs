//! The clock of the plugins' time limits: it ticks while calls run, and sleeps when none has for a while, so that an
//! idle gateway stays idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// One tick. Limits are checked this coarsely: a hundred wake-ups a second cost a core nothing that shows, a
/// thousand cost it two percent.
const TICK_MS: u64 = 10;

/// So many ticks without a call, and the clock sleeps: waking it is a system call.
const QUIET_TICKS: u32 = 100;

/// The clock, and the thread that it ticks on.
pub(super) struct PluginClock {
    state: Arc<State>,
    ticker: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    /// Calls that run now.
    running: AtomicUsize,
    /// The ticker sleeps until it is woken.
    asleep: AtomicBool,
}

/// A call that runs: the clock ticks until this is dropped.
pub(super) struct Running<'a>(&'a State);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PluginClock {
    /// Starts a clock that calls `tick` while calls run.
    pub(super) fn start(tick: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let ticker = std::thread::Builder::new()
            .name("plugin-clock".to_owned())
            .spawn(move || run(&shared, tick))?;
        Ok(Self { state, ticker: Some(ticker) })
    }

    /// Begins a call.
    pub(super) fn running(&self) -> Running<'_> {
        // Sequentially consistent, like the ticker's own pair: one of the two sees the other's store.
        self.state.running.fetch_add(1, Ordering::SeqCst);
        if self.state.asleep.load(Ordering::SeqCst)
            && let Some(ticker) = &self.ticker
        {
            ticker.thread().unpark();
        }
        Running(&self.state)
    }

    /// A limit in ticks: never less than asked for, at most a tick and its share more.
    pub(super) fn ticks(limit_ms: u64) -> u64 {
        limit_ms.div_ceil(TICK_MS) + 1
    }
}

impl Drop for PluginClock {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            let _ = ticker.join();
        }
    }
}

fn run(state: &State, tick: impl Fn()) {
    let mut quiet = 0;
    while !state.stop.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(TICK_MS));
        tick();
        let is_quiet = state.running.load(Ordering::SeqCst) == 0;
        quiet = if is_quiet { quiet + 1 } else { 0 };
        if quiet < QUIET_TICKS {
            continue;
        }
        state.asleep.store(true, Ordering::SeqCst);
        while state.running.load(Ordering::SeqCst) == 0 && !state.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        state.asleep.store(false, Ordering::SeqCst);
        quiet = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn it_ticks_while_calls_run_and_wakes_for_them() {
        let ticks = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&ticks);
        let clock = PluginClock::start(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
        // With no call, it falls asleep: the count stops.
        while !clock.state.asleep.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        let asleep = ticks.load(Ordering::SeqCst);
        assert_eq!(asleep, u64::from(QUIET_TICKS));
        let running = clock.running();
        while ticks.load(Ordering::SeqCst) < asleep + 3 {
            std::thread::yield_now();
        }
        drop(running);
        assert_eq!(PluginClock::ticks(1), 2);
        assert_eq!(PluginClock::ticks(100), 11);
    }
}
