//! How a client is brought to send an issuer's token, where its first answer could not carry one.

use super::{Capabilities, Claim, Plugin, Session};

impl Session {
    /// Whether a wrong proof is not the end yet.
    pub(super) fn asks_again(&self, claim: &Claim, plugin: Plugin) -> bool {
        self.asks_for_the_whole(claim, plugin) || self.asks_by(claim, plugin).is_some()
    }

    /// Whether an issuer's token may come here, and as it stands.
    pub(super) fn takes_issued(&self) -> bool {
        self.settings.issuers && self.is_private()
    }

    /// By which plugin a client whose proof was wrong is asked once more, which drivers let be done once: one that carries
    /// a token, where this one carries a hash only; or, of who has no password, its token file.
    pub(super) fn asks_by(&self, claim: &Claim, plugin: Plugin) -> Option<Plugin> {
        let may_ask = self.capabilities.has(Capabilities::PLUGIN_AUTH);
        if claim.switched || !may_ask || !self.takes_issued() {
            return None;
        }
        match plugin {
            Plugin::Native | Plugin::CachingSha2 if claim.blank => {
                may_have_token_file(claim).then_some(Plugin::OpenIdConnect)
            }
            Plugin::Native => Some(Plugin::CachingSha2),
            _ => None,
        }
    }
}

/// Whether an answer says that there is no password: caching_sha2_password does so with a NUL.
pub(super) fn is_blank(response: &[u8]) -> bool {
    matches!(response, [] | [0])
}

/// Whether this is MySQL's own library, of which a token file can be asked from 9.1 on.
fn may_have_token_file(claim: &Claim) -> bool {
    let says = |key: &str| {
        claim.attributes.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    };
    let mut version = says("_client_version").split('.').map(|part| part.parse().unwrap_or(0_u32));
    let version = (version.next().unwrap_or(0), version.next().unwrap_or(0));
    !claim.change_user && says("_client_name") == "libmysql" && version >= (9, 1)
}
