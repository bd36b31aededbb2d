//! Where a token is good: at which targets, and from which networks.

use std::net::IpAddr;

use crate::network::Network;

/// What a token is limited to. An empty list limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The names of the targets that it opens.
    pub targets: Vec<String>,
    /// The networks from which it is accepted.
    pub networks: Vec<Network>,
}

impl Scope {
    /// Whether it covers a login at this target from this address. A client of a Unix socket has no address, and so is
    /// of no network.
    pub fn covers(&self, target: &str, address: Option<IpAddr>) -> bool {
        let is_listed = |address| self.networks.iter().any(|network| network.contains(address));
        (self.targets.is_empty() || self.targets.iter().any(|name| name == target))
            && (self.networks.is_empty() || address.is_some_and(is_listed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(targets: &[&str], networks: &[&str]) -> Scope {
        Scope {
            targets: targets.iter().map(|name| (*name).to_owned()).collect(),
            networks: networks
                .iter()
                .map(|text| Network::try_from((*text).to_owned()).unwrap())
                .collect(),
        }
    }

    #[test]
    fn what_a_scope_covers() {
        let inside = Some("10.1.2.3".parse().unwrap());
        let outside = Some("192.0.2.1".parse().unwrap());
        let all = scope(&[], &[]);
        assert!(all.covers("shop", inside) && all.covers("shop", None));
        let shop = scope(&["shop", "crm"], &[]);
        assert!(shop.covers("crm", None));
        // Names are compared as they are: another case is another target.
        assert!(!shop.covers("sho", None) && !shop.covers("Shop", None) && !shop.covers("", None));
        let near = scope(&[], &["10.0.0.0/8", "2001:db8::/32"]);
        assert!(near.covers("shop", inside));
        assert!(near.covers("shop", Some("::ffff:10.1.2.3".parse().unwrap())));
        assert!(!near.covers("shop", outside) && !near.covers("shop", None));
        let everywhere = scope(&[], &["0.0.0.0/0", "::/0"]);
        assert!(everywhere.covers("shop", outside) && !everywhere.covers("shop", None));
        let both = scope(&["shop"], &["10.0.0.0/8"]);
        assert!(both.covers("shop", inside));
        assert!(!both.covers("shop", outside) && !both.covers("crm", inside));
    }
}
