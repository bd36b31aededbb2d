//! Which path is which page, and who has to be signed in for it.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use super::page::PageError;
use super::session::signed_in;
use super::{
    Web, access, approval, approvals, assets, device, guard, identities, record, sessions, sign_in,
    targets, tokens,
};

/// Longest form: a reason and a few names.
const MAX_FORM_BYTES: usize = 16 << 10;

pub(super) fn router(web: Web) -> Router {
    let own = Router::new()
        .route("/", get(access::show))
        .route("/approvals", get(approvals::list))
        .route("/approvals/{id}", get(approval::show))
        .route("/approvals/{id}/decide", post(approval::decide))
        .route("/sessions", get(sessions::list))
        .route("/sessions/{id}/kill", post(sessions::kill))
        .route("/record", get(record::list))
        .route("/record/{session}", get(record::show))
        .route("/targets", get(targets::list))
        .route("/identities", get(identities::list))
        .route("/identities/revoke", post(identities::revoke))
        .route("/identities/restore", post(identities::restore))
        .route("/tokens", get(tokens::list).post(tokens::create))
        .route("/tokens/{id}/rotate", post(tokens::rotate))
        .route("/tokens/{id}/revoke", post(tokens::revoke))
        .route("/passwords", post(access::mint))
        .route("/passwords/{id}/revoke", post(access::revoke))
        .route("/device", get(device::show).post(device::decide))
        .route("/sign-out", post(sign_in::sign_out))
        .layer(from_fn_with_state(web.clone(), signed_in));
    let devices = crate::control::device::router(web.deps().clone())
        .layer(from_fn_with_state(web.clone(), device::front));
    let router = Router::new()
        .route("/sign-in", get(sign_in::sign_in))
        .route("/sign-in/oidc/{name}", get(sign_in::leave))
        .route("/sign-in/oidc/{name}/callback", get(sign_in::come_back))
        .route("/signed-out", get(sign_in::signed_out))
        .route("/assets/{digest}/{name}", get(assets::serve))
        .merge(own)
        .merge(super::slack::routes());
    #[cfg(feature = "saml")]
    let router = router.merge(super::saml::routes());
    router
        .fallback(async || PageError::not_found())
        .method_not_allowed_fallback(async || PageError::not_found())
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .with_state(web.clone())
        .merge(devices)
        .layer(from_fn_with_state(web, guard::guard))
}
