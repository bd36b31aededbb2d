//! Time as a value. Nothing below `store` reads a clock: a turn's driver reads it once and passes it in.

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Monotonic nanoseconds since an arbitrary start; for durations and deadlines.
    pub mono_ns: u64,
    /// Microseconds since the Unix epoch; for the record and for expiry of credentials.
    pub wall_us: i64,
}

impl Now {
    /// The monotonic instant so much later: a deadline.
    pub fn after(self, time: std::time::Duration) -> u64 {
        self.mono_ns.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The instant `ns` nanoseconds later on both clocks.
    #[must_use]
    pub fn plus_ns(self, ns: u64) -> Self {
        let us = i64::try_from(ns / 1_000).unwrap_or(i64::MAX);
        Self { mono_ns: self.mono_ns.saturating_add(ns), wall_us: self.wall_us.saturating_add(us) }
    }
}

/// Microseconds since the Unix epoch, now. For what has no turn: the control plane, the gateway's own tasks, the command line.
pub fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
