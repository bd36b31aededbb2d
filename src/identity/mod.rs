//! Who is asking: token + keys + time → principal. Verification only: no I/O, no clock.

mod directory;
mod issuer;
mod login_key;
mod token;
mod user_name;

use std::collections::BTreeMap;

pub use directory::{Directory, LoginRefusal, Pass, Proof, TokenRecord, Verifier};
pub use issuer::{Issuer, IssuerKeys, IssuerRules};
pub use login_key::LoginKey;
pub use token::NewToken;
pub use user_name::UserName;

/// What kind of principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrincipalKind {
    /// A person.
    Human,
    /// An autonomous agent.
    Agent,
    /// A service or pipeline.
    Service,
}

impl PrincipalKind {
    /// The lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Agent => "agent",
            Self::Service => "service",
        }
    }
}

/// An authenticated identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its name.
    pub subject: String,
    /// Its kind.
    pub kind: PrincipalKind,
    /// Its groups, sorted, without repeats.
    pub groups: Vec<String>,
    /// The `;key=value` attributes of the user name: recorded and offered to policy, never trusted for permission.
    pub attributes: BTreeMap<String, String>,
}
