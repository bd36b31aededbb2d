//! Who is asking: token + keys + time → principal. Verification only: no I/O, no clock.

mod certificate;
mod directory;
mod explain;
mod groups;
mod issuer;
mod login_key;
mod pass;
mod password;
#[cfg(feature = "saml")]
pub mod saml;
mod scope;
mod token;
mod user_name;
mod uses;

use std::collections::BTreeMap;

pub use crate::principal::PrincipalKind;
pub use certificate::{Certificate, CertificateRule, NameKind};
pub use directory::{
    Attempt, Directory, LoginRefusal, MAX_LIVE_TOKENS, Proof, TokenRecord, Verifier,
};
use explain::Told;
pub use explain::{Check, Explanation, GroupOrigin};
pub use issuer::{Issuer, IssuerKeys, IssuerRules, SignIn};
pub use login_key::LoginKey;
pub use pass::{Pass, PassEnd};
pub use password::{MAX_LIVE_PASSWORDS, PasswordRecord};
pub use scope::Scope;
pub use token::NewToken;
pub use user_name::UserName;
pub use uses::{Use, Uses};

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

/// Longest name of an identity: what MySQL's own clients send at most, less the one length that they cut at.
pub const MAX_NAME: usize = 95;

/// What can be a name that policies speak of: nothing invisible.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && !text.chars().any(char::is_control)
}

/// What can be the name of an identity, written as a user name: no `;` besides.
pub fn is_identity(text: &str) -> bool {
    is_name(text) && !text.contains(';')
}

/// Sorted, without repeats: as groups and scopes are kept.
pub fn sorted(mut words: Vec<String>) -> Vec<String> {
    words.sort();
    words.dedup();
    words
}
