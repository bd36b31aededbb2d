//! Session passwords: what a person who has signed in is given for the drivers, for some hours.
//!
//! To a login one is as a gateway's token. It differs in where it comes from: nobody but a sign-in says whose it is and in
//! which groups, and it always ends.

use std::collections::BTreeMap;

use super::{PrincipalKind, Scope, Verifier};

/// At most so many of one identity can be live: each is tried by every login under its name.
pub const MAX_LIVE_PASSWORDS: usize = 16;

/// A session password as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordRecord {
    /// Its public id.
    pub id: String,
    /// Whose it is.
    pub identity: String,
    /// What kind of principal that is.
    pub kind: PrincipalKind,
    /// The groups that the sign-in conferred.
    pub groups: Vec<String>,
    /// What is recorded and told to policy of each login with it; a user name can't say otherwise.
    pub attributes: BTreeMap<String, String>,
    /// Where it is good.
    pub scope: Scope,
    /// The check.
    pub verifier: Verifier,
    /// Microseconds since the epoch.
    pub expires_us: i64,
    /// Revoked ones stay until they would have expired, so that the record can tell why a login failed.
    pub revoked: bool,
}
