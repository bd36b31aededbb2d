//! My access: who I am here, and how I reach the databases.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use maud::html;

use super::Web;
use super::page::{PageError, Tab, page};
use super::session::Visitor;

pub(super) async fn show(
    State(_web): State<Web>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Response, PageError> {
    let content = html! { h1 { "My access" } };
    Ok(page(&visitor, Tab::Access, "My access", &content))
}
