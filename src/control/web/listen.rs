//! The pages' listener: TLS or loopback, its connections counted and timed. What they say is the router's business.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, TcpListener as StdTcpListener};
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::Web;
use super::session::From;
use crate::control::error::ControlError;
use crate::control::listen::{converse, pause};

/// Connections at once. Beyond it the oldest must go, which has been answered long since, unless it came to keep others
/// out.
const MAX_CONNECTIONS: usize = 512;

/// Those of one address, so that one can't push all others out: a browser has six. On loopback there is a proxy, which
/// has everyone's.
const MAX_OF_ONE: usize = 32;

/// For a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The bound socket.
#[derive(Debug)]
pub struct WebListener(StdTcpListener);

impl WebListener {
    /// Binds it.
    pub fn bind(address: SocketAddr) -> Result<Self, ControlError> {
        let bound = StdTcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        bound.map(Self).map_err(|source| ControlError::Web { address, source })
    }

    /// Serves until dropped.
    pub(super) async fn serve(self, web: Web, router: Router) {
        let listener = match TcpListener::from_std(self.0) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "web.listen can't be served"),
        };
        let mut places = Places::default();
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let from = peer.ip().to_canonical();
                    let one = tokio::spawn(connection(stream, from, web.clone(), router.clone()));
                    places.seat(from, one.abort_handle());
                }
                Err(error) => pause(&error).await,
            }
        }
    }
}

/// The handshake is the connection's own business: a slow one holds up no other.
async fn connection(stream: TcpStream, from: IpAddr, web: Web, router: Router) {
    let _ = stream.set_nodelay(true);
    let Some(tls) = web.settings().tls.clone() else {
        return converse(stream, router, Some(From(from))).await;
    };
    let handshake = TlsAcceptor::from(tls).accept(stream);
    match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => converse(stream, router, Some(From(from))).await,
        Ok(Err(error)) => tracing::debug!(%from, %error, "a browser's handshake failed"),
        Err(_) => tracing::debug!(%from, "a browser's handshake took too long"),
    }
}

/// The connections, oldest first.
#[derive(Default)]
struct Places(VecDeque<(IpAddr, AbortHandle)>);

impl Places {
    fn seat(&mut self, from: IpAddr, newest: AbortHandle) {
        self.0.retain(|(_, connection)| !connection.is_finished());
        let of_one = self.0.iter().filter(|(address, _)| *address == from).count();
        let leaves = if of_one >= MAX_OF_ONE && !from.is_loopback() {
            self.0.iter().position(|(address, _)| *address == from)
        } else {
            (self.0.len() >= MAX_CONNECTIONS).then_some(0)
        };
        if let Some((_, oldest)) = leaves.and_then(|at| self.0.remove(at)) {
            oldest.abort();
        }
        self.0.push_back((from, newest));
    }
}
