//! Which path is which page, and who has to be signed in for it.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use super::page::PageError;
use super::session::signed_in;
use super::{Web, assets, guard, sign_in};

/// Longest form: a reason and a few names.
const MAX_FORM_BYTES: usize = 16 << 10;

pub(super) fn router(web: Web) -> Router {
    let own = Router::new()
        .route("/", get(super::access::show))
        .route("/sign-out", post(sign_in::sign_out))
        .layer(from_fn_with_state(web.clone(), signed_in));
    Router::new()
        .route("/sign-in", get(sign_in::sign_in))
        .route("/sign-in/oidc/{name}", get(sign_in::leave))
        .route("/sign-in/oidc/{name}/callback", get(sign_in::come_back))
        .route("/signed-out", get(sign_in::signed_out))
        .route("/assets/{digest}/{name}", get(assets::serve))
        .merge(own)
        .fallback(async || PageError::not_found())
        .method_not_allowed_fallback(async || PageError::not_found())
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(from_fn_with_state(web.clone(), guard::guard))
        .with_state(web)
}
