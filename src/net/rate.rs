//! Failed logins, counted by address: over the limit, more are refused unseen; and each failure is answered later
//! than the one before.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Now;

/// Addresses remembered at once: 65,536 entries are about 4 MiB. When full, the window starts anew.
const MAX_ADDRESSES: usize = 65_536;

const MINUTE_NS: u64 = 60_000_000_000;

/// The first failure waits so long; each further one in the same minute twice as long, up to a second.
const FIRST_DELAY: Duration = Duration::from_millis(20);
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Counts of failed logins over all workers. Touched by failing logins, and read once by each login.
#[derive(Debug)]
pub(super) struct LoginRate {
    per_minute: u32,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    began_ns: u64,
    failures: HashMap<IpAddr, Failures>,
}

/// Of one address, in this window.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    /// That it is over the limit has been recorded.
    told: bool,
}

impl LoginRate {
    /// At most so many failures a minute from one address.
    pub(super) fn new(per_minute: u32) -> Self {
        Self { per_minute, window: Mutex::new(Window::default()) }
    }

    /// Whether a login from here may be looked at.
    pub(super) fn allows(&self, from: IpAddr, now: Now) -> bool {
        self.count(from, now, 0) < self.per_minute
    }

    /// Counts a failure; how long its answer should wait.
    pub(super) fn failed(&self, from: IpAddr, now: Now) -> Duration {
        let doublings = self.count(from, now, 1).saturating_sub(1).min(16);
        FIRST_DELAY.saturating_mul(1 << doublings).min(MAX_DELAY)
    }

    /// A login was refused unseen; whether that is the first one of this address and minute. More are not worth a
    /// record each: whoever knocks a thousand times a second would fill the disk without any token.
    pub(super) fn is_first_refusal(&self, from: IpAddr, now: Now) -> bool {
        let mut window = self.window(now);
        !std::mem::replace(&mut window.failures.entry(network(from)).or_default().told, true)
    }

    fn count(&self, from: IpAddr, now: Now, more: u32) -> u32 {
        let mut window = self.window(now);
        if more == 0 {
            return window.failures.get(&network(from)).map_or(0, |failures| failures.count);
        }
        let count = &mut window.failures.entry(network(from)).or_default().count;
        *count = count.saturating_add(more);
        *count
    }

    fn window(&self, now: Now) -> MutexGuard<'_, Window> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let over = now.mono_ns.saturating_sub(window.began_ns) >= MINUTE_NS;
        if over || window.failures.len() >= MAX_ADDRESSES {
            window.began_ns = now.mono_ns;
            window.failures.clear();
        }
        window
    }
}

/// IPv6 hosts own whole /64 networks, so one is counted as one.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono_ns: seconds * 1_000_000_000 + MINUTE_NS, wall_us: 0 }
    }

    #[test]
    fn too_many_failures_close_the_door_for_that_address_and_minute() {
        let rate = LoginRate::new(3);
        let (bad, good): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        for _ in 0..3 {
            assert!(rate.allows(bad, at(1)));
            rate.failed(bad, at(1));
        }
        assert!(!rate.allows(bad, at(1)));
        assert!(rate.is_first_refusal(bad, at(1)));
        assert!(!rate.is_first_refusal(bad, at(2)), "one record a minute tells it");
        assert!(rate.allows(good, at(1)));
        assert!(rate.allows(bad, at(62)));
        assert!(rate.is_first_refusal(bad, at(63)));
    }

    #[test]
    fn answers_come_later_and_later() {
        let rate = LoginRate::new(100);
        let from: IpAddr = [10, 0, 0, 1].into();
        let delays: Vec<_> = (0..40).map(|_| rate.failed(from, at(1))).collect();
        assert_eq!(delays[0], FIRST_DELAY);
        assert_eq!(delays[1], FIRST_DELAY * 2);
        assert_eq!(delays[39], MAX_DELAY);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let rate = LoginRate::new(1);
        rate.failed("2001:db8::1".parse().unwrap(), at(1));
        assert!(!rate.allows("2001:db8::2".parse().unwrap(), at(1)));
        assert!(rate.allows("2001:db8:0:1::1".parse().unwrap(), at(1)));
    }
}
