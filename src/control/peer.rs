//! Who is on the other end of the Unix socket: SO_PEERCRED → identity. The kernel vouches for the user id, so no
//! password passes here.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::error::ErrorAnswer;
use crate::config::Peer;

/// The group whose members run the gateway: tokens, reload, sessions.
pub const ADMINS: &str = "admins";

/// Who calls the admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its identity.
    pub identity: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// Root without a mapping: may administrate, is recorded as such, and is no approver.
    pub break_glass: bool,
}

impl Caller {
    /// Who a Unix user is. `None`: nobody that may call.
    pub fn of(uid: u32, peers: &[Peer]) -> Option<Self> {
        let mapped = peers.iter().find(|peer| peer.uid == uid).map(|peer| Self {
            identity: peer.identity.clone(),
            groups: peer.groups.clone(),
            break_glass: false,
        });
        let root = || Self { identity: "root".to_owned(), groups: Vec::new(), break_glass: true };
        mapped.or_else(|| (uid == 0).then(root))
    }

    pub(super) fn is_admin(&self) -> bool {
        self.break_glass || self.is_in(ADMINS)
    }

    pub(super) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// An error unless this caller may administrate.
    pub(super) fn must_be_admin(&self) -> Result<(), ErrorAnswer> {
        if self.is_admin() {
            return Ok(());
        }
        let text = format!("{} is not in group {ADMINS}", self.identity);
        Err(ErrorAnswer::forbidden(&text))
    }
}

/// What the listener knows of a connection: the caller, or the user id that maps to nobody.
#[derive(Clone, Debug)]
pub(super) struct Origin(pub(super) Result<Caller, Option<u32>>);

/// Lets only mapped callers through, and hands the [`Caller`] on as an extension.
pub(super) async fn known_only(mut request: Request, next: Next) -> Response {
    let origin = request.extensions().get::<Origin>().cloned();
    match origin {
        Some(Origin(Ok(caller))) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Some(Origin(Err(Some(uid)))) => {
            tracing::warn!(uid, "an unmapped user called the admin API");
            let text = format!("user id {uid} is nobody here; map it with [[admin.peers]]");
            ErrorAnswer::forbidden(&text).into_response()
        }
        _ => ErrorAnswer::forbidden("the caller's user id is not known").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> Vec<Peer> {
        let peer = |uid, identity: &str, groups: &[&str]| Peer {
            uid,
            identity: identity.into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        vec![peer(1000, "dana", &["dba", ADMINS]), peer(1001, "ann", &["dba"])]
    }

    #[test]
    fn mapped_users_are_who_the_configuration_says() {
        let dana = Caller::of(1000, &peers()).unwrap();
        assert_eq!(dana.identity, "dana");
        assert!(dana.is_admin() && dana.is_in("dba") && !dana.break_glass);
        let ann = Caller::of(1001, &peers()).unwrap();
        assert!(!ann.is_admin());
        assert!(ann.must_be_admin().is_err());
    }

    #[test]
    fn unmapped_root_breaks_the_glass_and_is_no_approver() {
        let root = Caller::of(0, &peers()).unwrap();
        assert!(root.break_glass && root.is_admin() && root.groups.is_empty());
    }

    #[test]
    fn mapped_root_is_an_ordinary_caller() {
        let mapped = vec![Peer { uid: 0, identity: "ops".into(), groups: vec!["dba".into()] }];
        let ops = Caller::of(0, &mapped).unwrap();
        assert!(!ops.break_glass && !ops.is_admin() && ops.is_in("dba"));
    }

    #[test]
    fn others_are_nobody() {
        assert_eq!(Caller::of(1002, &peers()), None);
        assert_eq!(Caller::of(u32::MAX, &[]), None);
    }
}
