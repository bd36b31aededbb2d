//! What a form sends: its fields, once its token shows that the form was one of this session's pages.

use axum::Form;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::page::PageError;
use super::session::Visitor;
use crate::secret;

/// The fields of a form that this visitor was shown.
pub(super) struct Sent<T>(pub(super) T);

#[derive(serde::Deserialize)]
struct Fields<T> {
    #[serde(default)]
    csrf: String,
    #[serde(flatten)]
    rest: T,
}

/// For a form without fields.
#[derive(serde::Deserialize)]
pub(super) struct Nothing {}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Sent<T> {
    type Rejection = PageError;

    async fn from_request(request: Request, state: &S) -> Result<Self, PageError> {
        let token = request.extensions().get::<Visitor>().map(|visitor| visitor.csrf.clone());
        let unreadable = |_| {
            let text = "The form could not be read: a field is missing or too long.";
            PageError::new(
                StatusCode::BAD_REQUEST,
                "Not understood",
                text.to_owned(),
                "Go back, and send it again.",
            )
        };
        let Form(fields) =
            Form::<Fields<T>>::from_request(request, state).await.map_err(unreadable)?;
        match token {
            Some(token) if secret::equal(token.as_bytes(), fields.csrf.as_bytes()) => {
                Ok(Self(fields.rest))
            }
            _ => Err(stale()),
        }
    }
}

fn stale() -> PageError {
    let text = "This form is of an earlier sign-in, or of another site. Nothing was done.";
    let mend = "Open the page again, and send the form from there.";
    PageError::new(StatusCode::FORBIDDEN, "Out of date", text.to_owned(), mend)
}
