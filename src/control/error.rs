//! What the control plane answers when it can't or won't, as `{"error": {"code", "message"}}`; and why it can't start.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::approval::VoteRefused;
use crate::store::StoreError;

/// Why the control plane can't start. Each text names the key and the mend.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Someone answers on the socket.
    #[error(
        "admin.socket: another gateway answers on {0}; stop it, or give this one a socket of its own"
    )]
    SocketInUse(PathBuf),
    /// Something that isn't a socket is in the way.
    #[error("admin.socket: {0} is there and not a socket; move it, or name another path")]
    NotASocket(PathBuf),
    /// It can't be made.
    #[error(
        "admin.socket: {path}: {source}; make its folder writable for the gateway, or name another path"
    )]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The TCP address can't be bound.
    #[error("admin.listen: {address}: {source}; free the port, or name another")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The pages' address can't be bound.
    #[error("web.listen: {address}: {source}; free the port, or name another")]
    Web {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// An error as the API answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorAnswer {
    status: StatusCode,
    body: ErrorBody,
}

/// The inner object of an error's body.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ErrorBody {
    /// A closed word for programs.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

#[derive(serde::Serialize)]
struct Envelope {
    error: ErrorBody,
}

impl ErrorAnswer {
    fn new(status: StatusCode, code: &str, message: &str) -> Self {
        Self { status, body: ErrorBody { code: code.to_owned(), message: message.to_owned() } }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn not_found(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this path takes another method",
        )
    }

    pub(super) fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            "the body is longer than 64 KiB or can't be read",
        )
    }

    pub(super) fn conflict(message: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub(super) fn too_many(message: &str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", message)
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.body.message
    }

    pub(super) fn unavailable(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }
}

impl IntoResponse for ErrorAnswer {
    fn into_response(self) -> Response {
        (self.status, Json(Envelope { error: self.body })).into_response()
    }
}

impl From<StoreError> for ErrorAnswer {
    fn from(error: StoreError) -> Self {
        // what SQLite says is for the log: it may quote a row
        tracing::error!(%error, "the store failed under the admin API");
        Self::unavailable("the store failed; see the gateway's log")
    }
}

impl From<VoteRefused> for ErrorAnswer {
    fn from(refused: VoteRefused) -> Self {
        let text = refused.to_string();
        match refused {
            VoteRefused::Unknown(_) => Self::not_found(&text),
            VoteRefused::Closed { .. } | VoteRefused::VotedBefore(_) => Self::conflict(&text),
            VoteRefused::OwnRequest(_)
            | VoteRefused::OnOwnBehalf(_)
            | VoteRefused::NoGlass(_)
            | VoteRefused::NotAnApprover { .. } => Self::forbidden(&text),
            VoteRefused::ReasonTooLong | VoteRefused::ReasonTooShort(_) => Self::bad_request(&text),
            VoteRefused::NotRecorded | VoteRefused::Unavailable => Self::unavailable(&text),
            VoteRefused::Store(error) => Self::from(error),
        }
    }
}
