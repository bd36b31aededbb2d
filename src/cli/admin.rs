//! The client of the admin socket: one request a connection. It says in words what a status code means.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::progress::during;
use super::{CliError, Context};
use crate::control::ErrorBody;

/// Longest answer: 9,000 sessions are 2 MiB, so this is a stranger on the socket.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// A reload compiles plugins, which takes seconds; longer means that nobody is at home.
const PATIENCE: Duration = Duration::from_mins(1);

/// The way to the running gateway.
pub(super) struct Admin {
    socket: PathBuf,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum CallError {
    /// Nobody serves the socket.
    NoGateway(PathBuf),
    /// Anything else.
    Cli(CliError),
}

impl From<CallError> for CliError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoGateway(socket) => Self::failed(format!(
                "{}: admin.socket: no gateway answers; start it with `rowgate serve`, or name its configuration with --config",
                socket.display()
            )),
            CallError::Cli(error) => error,
        }
    }
}

impl Admin {
    /// The gateway of this configuration.
    pub(super) fn of(context: &Context) -> Result<Self, CliError> {
        Ok(Self { socket: context.socket()? })
    }

    /// The gateway behind this socket.
    pub(super) fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Asks.
    pub(super) fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.call(Method::GET, path, String::new())
    }

    /// Does.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        let body = serde_json::to_string(body).map_err(|error| self.broken(&error))?;
        self.call(Method::POST, path, body)
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<T, CallError> {
        let (status, bytes) = during("waiting for the gateway", || {
            block_on(async {
                let answer =
                    tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await;
                answer.unwrap_or_else(|_| {
                    let text = format!("{}: the gateway does not answer", self.socket.display());
                    Err(CallError::Cli(CliError::failed(text)))
                })
            })
        })?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| self.broken(&error));
        }
        let refusal: Refusal =
            serde_json::from_slice(&bytes).map_err(|error| self.broken(&error))?;
        let message = refusal.error.message;
        Err(CallError::Cli(match status {
            StatusCode::BAD_REQUEST => CliError::Input(message),
            _ => CliError::Failed(message),
        }))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|error| self.absent(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "rowgate")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.broken(&error))?;
        let exchange = async {
            let response =
                sender.send_request(request).await.map_err(|error| self.broken(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(|error| self.broken(&error))?;
            Ok((status, body.to_bytes()))
        };
        let mut connection = std::pin::pin!(connection);
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            // the connection may end first, with its answer already handed over
            _ = &mut connection => exchange.await,
        }
    }

    fn absent(&self, error: &std::io::Error) -> CallError {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                CallError::NoGateway(self.socket.clone())
            }
            ErrorKind::PermissionDenied => CallError::Cli(CliError::failed(format!(
                "{}: admin.socket: {error}; run it as the gateway's user, or let this user in with [[admin.peers]]",
                self.socket.display()
            ))),
            _ => self.broken(error),
        }
    }

    fn broken(&self, error: &impl std::fmt::Display) -> CallError {
        let text = format!("{}: admin.socket: {error}", self.socket.display());
        CallError::Cli(CliError::failed(text))
    }
}

#[derive(serde::Deserialize)]
struct Refusal {
    error: ErrorBody,
}

/// A path segment of ids such as `apr_1f2e`; anything else could name another path.
pub(super) fn segment(id: &str) -> Result<&str, CliError> {
    let is_id = !id.is_empty()
        && id.len() <= 64
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if is_id { Ok(id) } else { Err(CliError::input(format!("{id:?} is not an id; see the list"))) }
}

/// Runs one verb's asynchronous part.
pub(super) fn block_on<T, E: From<CliError>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| E::from(CliError::failed(format!("starting the runtime: {error}"))))?
        .block_on(work)
}

impl From<CliError> for CallError {
    fn from(error: CliError) -> Self {
        Self::Cli(error)
    }
}
