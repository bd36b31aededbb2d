//! Failed logins, counted by address and by the name that they try. Over an address's limit, more are refused unseen; and
//! each failure of either is answered later than the one before. A name's count refuses nobody, and a right password is
//! let in at once whatever it is: nobody can lock somebody else out by guessing.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Now;

/// Addresses remembered at once: 65,536 entries are about 4 MiB. When full, all are forgotten; names are not.
const MAX_ADDRESSES: usize = 65_536;

const MINUTE_NS: u64 = 60_000_000_000;

/// Counters of names: 64 KiB. Each name has one, by a hash under a key of this process: which names share one nobody can
/// choose, and whoever does is answered later when it fails, no more. So no flood of names pushes another's count out.
const NAME_COUNTERS: usize = 16_384;

/// The first failure waits so long; each further one in the same minute twice as long, up to a second.
const FIRST_DELAY: Duration = Duration::from_millis(20);
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Counts of failed logins over all workers. Touched by failing logins, and read once by each login.
#[derive(Debug)]
pub(super) struct LoginRate {
    per_minute: u32,
    name_hash: RandomState,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began_ns: u64,
    failures: HashMap<IpAddr, Failures>,
    names: Box<[u32]>,
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
        let names = vec![0; NAME_COUNTERS].into_boxed_slice();
        let window = Window { began_ns: 0, failures: HashMap::new(), names };
        Self { per_minute, name_hash: RandomState::new(), window: Mutex::new(window) }
    }

    /// Whether a login from here may be looked at.
    pub(super) fn allows(&self, from: IpAddr, now: Now) -> bool {
        let window = self.window(now);
        window.failures.get(&network(from)).is_none_or(|of| of.count < self.per_minute)
    }

    /// Counts a failure of this user name, known or not; how long its answer should wait, and whose failures say so:
    /// `address` or `name`.
    pub(super) fn failed(&self, from: IpAddr, user: &str, now: Now) -> (Duration, &'static str) {
        let mut window = self.window(now);
        let by_address = &mut window.failures.entry(network(from)).or_default().count;
        *by_address = by_address.saturating_add(1);
        let by_address = *by_address;
        let by_name = window.names.get_mut(self.counter(user)).map_or(0, |count| {
            *count = count.saturating_add(1);
            *count
        });
        let doublings = by_address.max(by_name).saturating_sub(1).min(16);
        let delay = FIRST_DELAY.saturating_mul(1 << doublings).min(MAX_DELAY);
        (delay, if by_name > by_address { "name" } else { "address" })
    }

    /// Where a name is counted: with whatever attributes it came.
    fn counter(&self, user: &str) -> usize {
        let name = user.split(';').next().unwrap_or_default();
        let hash = self.name_hash.hash_one(name) % NAME_COUNTERS as u64;
        usize::try_from(hash).unwrap_or_default()
    }

    /// A login was refused unseen; whether that is the first one of this address and minute. More are not worth a
    /// record each: whoever knocks a thousand times a second would fill the disk without any token.
    pub(super) fn is_first_refusal(&self, from: IpAddr, now: Now) -> bool {
        let mut window = self.window(now);
        !std::mem::replace(&mut window.failures.entry(network(from)).or_default().told, true)
    }

    fn window(&self, now: Now) -> MutexGuard<'_, Window> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.mono_ns.saturating_sub(window.began_ns) >= MINUTE_NS {
            window.began_ns = now.mono_ns;
            window.failures.clear();
            window.names.fill(0);
        }
        if window.failures.len() >= MAX_ADDRESSES {
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
            rate.failed(bad, "ann", at(1));
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
        let of = |n: u32| format!("user{n}");
        let delays: Vec<_> = (0..40).map(|n| rate.failed(from, &of(n), at(1))).collect();
        assert_eq!(delays[0], (FIRST_DELAY, "address"));
        assert_eq!(delays[1], (FIRST_DELAY * 2, "address"));
        assert_eq!(delays[39], (MAX_DELAY, "address"));
    }

    /// However many addresses try it: known or unknown, with whatever attributes.
    #[test]
    fn a_name_that_many_addresses_try_is_answered_later_and_later() {
        let rate = LoginRate::new(100);
        let from = |n: u8| IpAddr::from([10, 0, 0, n]);
        let tried = |n: u8| rate.failed(from(n), &format!("ann;run={n}"), at(1));
        let delays: Vec<_> = (0..40).map(tried).collect();
        assert_eq!(delays[0], (FIRST_DELAY, "address"));
        assert_eq!(delays[1], (FIRST_DELAY * 2, "name"));
        assert_eq!(delays[2], (FIRST_DELAY * 4, "name"));
        assert_eq!(delays[39], (MAX_DELAY, "name"));
        assert!((0..40).all(|n| rate.allows(from(n), at(1))), "a name's count refuses nobody");
        assert_eq!(rate.failed(from(99), "ann", at(61)), (FIRST_DELAY, "address"), "a new minute");
    }

    /// The table has the same size whatever is tried, and no flood of names forgets one.
    #[test]
    fn a_flood_of_names_pushes_none_out() {
        let rate = LoginRate::new(u32::MAX);
        let from = |n: u32| IpAddr::from(Ipv6Addr::from_bits(u128::from(n) << 64));
        for n in 0..7 {
            rate.failed(from(n), "ann", at(1));
        }
        for n in 0..100_000 {
            rate.failed(from(100 + n), &format!("user{n}"), at(1));
        }
        assert_eq!(rate.failed(from(8), "ann", at(1)), (MAX_DELAY, "name"));
        let window = rate.window(at(1));
        assert!(window.failures.len() <= MAX_ADDRESSES && window.names.len() == NAME_COUNTERS);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let rate = LoginRate::new(1);
        rate.failed("2001:db8::1".parse().unwrap(), "ann", at(1));
        assert!(!rate.allows("2001:db8::2".parse().unwrap(), at(1)));
        assert!(rate.allows("2001:db8:0:1::1".parse().unwrap(), at(1)));
    }
}
