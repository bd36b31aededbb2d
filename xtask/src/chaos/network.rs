//! A network of its own for the database: a namespace, joined to this one by a pair of virtual interfaces that can be cut.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use xtask::sh;

/// The two ends: a corner of the private ranges that nothing here is likely to use.
const HERE: Ipv4Addr = Ipv4Addr::new(10, 231, 77, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 231, 77, 2);

/// Removed when dropped.
pub(super) struct Network {
    name: String,
    /// This side's interface.
    here: String,
}

impl Network {
    /// Whether this process may make one.
    pub(super) fn is_allowed() -> bool {
        let name = format!("rgtried{}", std::process::id());
        let made = ip(&format!("netns add {name}")).is_ok();
        if made {
            let _ = ip(&format!("netns del {name}"));
        }
        made
    }

    /// Makes one; needs root.
    pub(super) fn make() -> Result<Self> {
        let id = std::process::id();
        let network = Self { name: format!("rgchaos{id}"), here: format!("rgc{id}") };
        let (name, here, there) = (&network.name, &network.here, format!("rgd{id}"));
        ip(&format!("netns add {name}")).context("a network namespace needs root")?;
        ip(&format!("link add {here} type veth peer name {there} netns {name}"))?;
        ip(&format!("addr add {HERE}/30 dev {here}"))?;
        ip(&format!("link set {here} up"))?;
        ip(&format!("-n {name} addr add {THERE}/30 dev {there}"))?;
        ip(&format!("-n {name} link set {there} up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        Ok(network)
    }

    /// The address of what runs inside.
    pub(super) fn address() -> Ipv4Addr {
        THERE
    }

    /// What a command is to begin with to run inside.
    pub(super) fn inside(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// From here on no packet passes, in silence.
    pub(super) fn cut(&self) -> Result<()> {
        ip(&format!("link set {} down", self.here))
    }

    /// Packets pass again.
    pub(super) fn join(&self) -> Result<()> {
        ip(&format!("link set {} up", self.here))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = ip(&format!("link del {}", self.here));
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn ip(words: &str) -> Result<()> {
    let program = sh::find_program("ip").context("the package iproute2 is missing")?;
    sh::capture(std::process::Command::new(program).args(words.split(' '))).map(drop)
}
