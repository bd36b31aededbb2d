//! Logins under way, counted by address: who knows no token can't take the connections of all the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rate::network;

/// Fewer than this is no attack: the connections that one application's pool opens at once.
const AT_LEAST: usize = 64;

/// The unfinished logins of each address. Bounded by `max_connections`, since each is a connection.
#[derive(Debug)]
pub(super) struct Logins {
    most: usize,
    by_network: Mutex<HashMap<IpAddr, usize>>,
}

impl Logins {
    /// One address may have a quarter of all connections in this state: it then keeps them for `login_timeout` only,
    /// and the rest stays for others.
    pub(super) fn new(max_connections: usize) -> Arc<Self> {
        let most = (max_connections / 4).max(AT_LEAST);
        Arc::new(Self { most, by_network: Mutex::default() })
    }

    /// A connection from here begins its login; `None`: too many have not finished theirs.
    pub(super) fn begin(self: &Arc<Self>, from: IpAddr) -> Option<Unproven> {
        let from = network(from);
        let mut by_network = self.lock();
        let count = by_network.entry(from).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Unproven { logins: Arc::clone(self), from })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // A panic under the lock leaves a count that is one too high or too low at the most.
        self.by_network.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One login under way; over when dropped.
#[derive(Debug)]
pub(super) struct Unproven {
    logins: Arc<Logins>,
    from: IpAddr,
}

impl Drop for Unproven {
    fn drop(&mut self) {
        let mut by_network = self.logins.lock();
        if let Some(count) = by_network.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                by_network.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_can_t_take_them_all() {
        let logins = Logins::new(400);
        let (one, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let mut unproven: Vec<_> = (0..100).map(|_| logins.begin(one).unwrap()).collect();
        assert!(logins.begin(one).is_none() && logins.begin(mapped).is_none());
        assert!(logins.begin(other).is_some());
        unproven.pop();
        assert!(logins.begin(mapped).is_some());
        drop(unproven);
        assert!(logins.lock().is_empty());
    }
}
