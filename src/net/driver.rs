//! Which I/O driver runs, found once at the start; and the one place that builds monoio's runtimes.
//!
//! monoio's own probe ignores the ring's set-up flags, so the ladder is climbed here: io_uring with the flags that
//! save interrupts (COOP_TASKRUN, SINGLE_ISSUER), io_uring without, epoll.

use std::io;

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::NetError;
use crate::config::Driver;

/// Operations in flight before a submission is forced. Completions beyond it queue in the kernel.
const ENTRIES: u32 = 1_024;

/// The driver that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// io_uring with COOP_TASKRUN and SINGLE_ISSUER.
    IoUringTuned,
    /// io_uring without flags, for kernels before 6.0.
    IoUring,
    /// epoll.
    Epoll,
}

impl DriverKind {
    /// Every kind, for metrics.
    pub const ALL: [Self; 3] = [Self::IoUringTuned, Self::IoUring, Self::Epoll];

    /// The word in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::IoUringTuned => "io_uring_tuned",
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }

    /// Whether sockets must be non-blocking: epoll needs that, io_uring waits by itself.
    pub(super) fn wants_nonblocking(self) -> bool {
        self == Self::Epoll
    }

    /// Builds a runtime on this thread and runs the future that `make` makes.
    pub(super) fn run<F: Future>(self, make: impl FnOnce() -> F) -> io::Result<F::Output> {
        match self {
            Self::IoUringTuned => {
                let builder = RuntimeBuilder::<IoUringDriver>::new().uring_builder(tuned());
                Ok(builder.with_entries(ENTRIES).enable_timer().build()?.block_on(make()))
            }
            Self::IoUring => {
                let builder = RuntimeBuilder::<IoUringDriver>::new().with_entries(ENTRIES);
                Ok(builder.enable_timer().build()?.block_on(make()))
            }
            Self::Epoll => {
                let builder = RuntimeBuilder::<LegacyDriver>::new().with_entries(ENTRIES);
                Ok(builder.enable_timer().build()?.block_on(make()))
            }
        }
    }
}

/// Climbs down the ladder. A driver that was asked for by name and can't run is an error.
pub(super) fn choose(wanted: Driver) -> Result<DriverKind, NetError> {
    let ladder: &[DriverKind] = match wanted {
        Driver::Auto => &DriverKind::ALL,
        Driver::IoUring => &[DriverKind::IoUringTuned, DriverKind::IoUring],
        Driver::Epoll => &[DriverKind::Epoll],
    };
    let mut why = None;
    for kind in ladder {
        match probe(*kind) {
            Ok(()) => return Ok(*kind),
            Err(error) => {
                tracing::warn!(driver = kind.label(), %error, "this driver can't run here");
                why = Some(error);
            }
        }
    }
    let why = why.unwrap_or_else(|| io::Error::from(io::ErrorKind::Unsupported));
    let driver = if wanted == Driver::Epoll { "epoll" } else { "io_uring" };
    Err(NetError::Driver { driver, why })
}

/// Tries a driver on a thread of its own, since a ring belongs to the thread that made it.
fn probe(kind: DriverKind) -> io::Result<()> {
    let tried = std::thread::spawn(move || {
        if kind != DriverKind::Epoll && !monoio::utils::detect_uring() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel refuses io_uring"));
        }
        kind.run(|| async {})
    });
    tried.join().unwrap_or_else(|_| Err(io::Error::other("building the driver panicked")))
}

/// COOP_TASKRUN: completions don't interrupt a thread that asks for them anyway. SINGLE_ISSUER: only this thread
/// submits. Measured: a tenth less CPU. (DEFER_TASKRUN starves I/O under monoio's loop.)
fn tuned() -> io_uring::Builder {
    let mut builder = io_uring::IoUring::builder();
    builder.setup_coop_taskrun().setup_single_issuer();
    builder
}

/// The CPUs that this process may run on, so that pinning obeys a container's cpuset.
pub(super) fn allowed_cpus() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let listed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let cpus = listed.map(|list| parse_cpus(list.trim())).unwrap_or_default();
    if cpus.is_empty() {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        return (0..count).collect();
    }
    cpus
}

/// `0-3,8,10-11`.
fn parse_cpus(list: &str) -> Vec<usize> {
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            // 8,192 is the kernel's own limit of CPUs
            cpus.extend(first..=last.min(first.saturating_add(8_192)));
        }
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse_cpus("0-3,8,10-11"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(parse_cpus("5"), [5]);
        assert!(parse_cpus("").is_empty());
        assert!(!allowed_cpus().is_empty());
    }

    #[test]
    fn epoll_always_runs_and_a_forced_driver_is_that_driver() {
        assert_eq!(choose(Driver::Epoll).unwrap(), DriverKind::Epoll);
        if let Ok(kind) = choose(Driver::IoUring) {
            assert_ne!(kind, DriverKind::Epoll);
            assert_eq!(choose(Driver::Auto).unwrap(), kind);
        }
    }
}
