//! The control plane's two listeners: bound first, served later. Connections are counted and timed; what they say is
//! the routers' business.

use std::collections::VecDeque;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::AbortHandle;

use super::error::ControlError;
use super::peer::{Caller, Origin};
use crate::config::{Admin, Peer};
use crate::socket::{self, Access, SocketError, SocketFile};

/// Connections at once on each listener: people, scripts and a few scrapers, not clients. Beyond it the oldest must go,
/// which has been answered long since, unless it came to keep others out.
const MAX_CONNECTIONS: usize = 64;
/// From a connection's start (or its last answer) to a whole request head: a stuck peer must not hold its place.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection's whole life. Scrapers reconnect; a body that never ends does not stay.
const CONNECTION_LIFE: Duration = Duration::from_mins(10);
/// For the last answer of a connection whose life is over.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// After an accept that failed (no file handles left): time for one to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound sockets.
#[derive(Debug)]
pub struct Listeners {
    unix: StdUnixListener,
    file: SocketFile,
    tcp: Option<StdTcpListener>,
    peers: Arc<Peers>,
}

/// Who is whom on the admin socket, now: a reload may change it.
#[derive(Debug)]
pub struct Peers {
    socket: PathBuf,
    peers: ArcSwap<Vec<Peer>>,
}

impl Peers {
    /// From now on, these are who they say. Connections that are open keep what they were.
    pub fn set(&self, peers: &[Peer]) {
        self.peers.store(Arc::new(peers.to_vec()));
        if let Err(error) = socket::set_mode(&self.socket, access(peers, own_uid()).mode) {
            tracing::warn!(%error, "the admin socket's mode can't be set");
        }
    }
}

impl Listeners {
    /// Binds both. A socket file that nobody answers on is a crash's remains, and is replaced.
    pub fn bind(admin: &Admin) -> Result<Self, ControlError> {
        let path = &admin.socket;
        let refused = |source| ControlError::Socket { path: path.clone(), source };
        let bound = socket::listen(path, access(&admin.peers, own_uid()));
        let (unix, file) = bound.map_err(|error| match error {
            SocketError::InUse(path) => ControlError::SocketInUse(path),
            SocketError::NotASocket(path) => ControlError::NotASocket(path),
            SocketError::Refused { path, source } => ControlError::Socket { path, source },
        })?;
        unix.set_nonblocking(true).map_err(refused)?;
        let tcp = admin.listen.map(|address| {
            let bound = StdTcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            bound.map_err(|source| ControlError::Listen { address, source })
        });
        let peers = ArcSwap::from_pointee(admin.peers.clone());
        let peers = Arc::new(Peers { socket: path.clone(), peers });
        Ok(Self { unix, file, tcp: tcp.transpose()?, peers })
    }

    /// Where the probes are served, with the port that the system chose.
    pub fn probes(&self) -> Option<std::net::SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Who is whom, to be changed while it serves.
    pub fn peers(&self) -> Arc<Peers> {
        Arc::clone(&self.peers)
    }

    /// Serves until dropped; the socket file goes with it.
    pub(super) async fn serve(self, api: Router, probes: Router) {
        let Self { unix, file: _file, tcp, peers } = self;
        let unix = async {
            match UnixListener::from_std(unix) {
                Ok(listener) => accept_unix(listener, api, &peers).await,
                Err(error) => tracing::error!(%error, "the admin socket can't be served"),
            }
        };
        let tcp = async {
            match tcp.map(TcpListener::from_std) {
                Some(Ok(listener)) => accept_tcp(listener, probes).await,
                Some(Err(error)) => tracing::error!(%error, "admin.listen can't be served"),
                None => {}
            }
        };
        tokio::join!(unix, tcp);
    }
}

async fn accept_unix(listener: UnixListener, api: Router, peers: &Peers) {
    let mut places = Places::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let uid = stream.peer_cred().map(|peer| peer.uid()).ok();
                let caller = uid.and_then(|uid| Caller::of(uid, &peers.peers.load()));
                let origin = Origin(caller.ok_or(uid));
                places
                    .seat(tokio::spawn(converse(stream, api.clone(), Some(origin))).abort_handle());
            }
            Err(error) => pause(&error).await,
        }
    }
}

async fn accept_tcp(listener: TcpListener, probes: Router) {
    let mut places = Places::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                places.seat(
                    tokio::spawn(converse(stream, probes.clone(), None::<Origin>)).abort_handle(),
                );
            }
            Err(error) => pause(&error).await,
        }
    }
}

/// The connections of one listener, oldest first.
#[derive(Default)]
struct Places(VecDeque<AbortHandle>);

impl Places {
    fn seat(&mut self, newest: AbortHandle) {
        self.0.retain(|connection| !connection.is_finished());
        if self.0.len() >= MAX_CONNECTIONS
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(newest);
    }
}

pub(super) async fn pause(error: &std::io::Error) {
    tracing::warn!(%error, "the control plane could not accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// One connection, from its first request to its end.
pub(super) async fn converse<S, O>(stream: S, router: Router, origin: Option<O>)
where
    O: Clone + Send + Sync + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<_>| {
        if let Some(origin) = &origin {
            request.extensions_mut().insert(origin.clone());
        }
        hyper::service::Service::call(&router, request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    if tokio::time::timeout(CONNECTION_LIFE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
    }
}

/// For the gateway's own user, and for its group as soon as other users are mapped. Whoever gets in that is mapped no more
/// is still asked for its user id.
fn access(peers: &[Peer], own: u32) -> Access {
    let others = peers.iter().any(|peer| peer.uid != 0 && peer.uid != own);
    Access { mode: if others { 0o660 } else { 0o600 }, uid: None, gid: None }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
