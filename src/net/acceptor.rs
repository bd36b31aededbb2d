//! Accepting: every worker waits on every listener, and hands a connection to a worker that has fewer sessions, if there
//! is one.
//!
//! That keeps workers even (SO_REUSEPORT alone skewed them by up to twice the mean), and a connection that its worker keeps
//! crosses no threads. Stopping shuts the listening socket down, which ends the waits; those on a socket that outlives the
//! process are called off.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use socket2::SockRef;
use tokio::sync::mpsc;

use super::listener::{self, Accepting, Listener};
use super::target::TargetState;
use super::worker::{Accepted, Worker, WorkerEvent};
use super::{Shared, keepalive};

/// How long to wait when the process is out of descriptors: a few session ends.
const PAUSE: Duration = Duration::from_millis(50);

/// 1040, as a server sends it before any handshake (so without an SQLSTATE).
const TOO_MANY: &[u8] = b"\x1d\0\0\0\xff\x10\x04Rowgate: too many sessions";

/// The same, for one address.
pub(super) const TOO_MANY_LOGINS: &[u8] =
    b"\x3c\0\0\0\xff\x10\x04Rowgate: too many unfinished logins from this address yet";

/// Whom clients of Unix sockets are counted as, where addresses are counted.
pub(super) const THIS_MACHINE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Ids of sessions: unique over restarts, so that the record's sessions are, and below 2^53 for JSON's sake.
pub(super) struct SessionIds(AtomicU64);

impl SessionIds {
    /// Ids from the second of the start on: a restart would have to follow four million sessions a second to clash.
    pub(super) fn new() -> Self {
        let since_2020 = UNIX_EPOCH + Duration::from_hours(438_288);
        let seconds = SystemTime::now().duration_since(since_2020).map_or(0, |d| d.as_secs());
        Self(AtomicU64::new(seconds << 22))
    }

    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Where accepted connections go.
#[derive(Clone)]
pub(super) struct Dispatch {
    pub(super) target: usize,
    /// The listener was passed on to this process, and will be to the next one.
    pub(super) is_passed: bool,
    pub(super) state: Arc<TargetState>,
    pub(super) shared: Arc<Shared>,
    pub(super) inboxes: Vec<mpsc::Sender<WorkerEvent>>,
    pub(super) ids: Arc<SessionIds>,
}

/// What one worker is to accept on.
pub(super) struct Listen {
    listener: listener::Shared,
    dispatch: Dispatch,
}

/// Accepts on this listener from now on, until that is shut down.
pub(super) fn start(listener: &Listener, dispatch: &Dispatch) -> io::Result<()> {
    if let Listener::Tcp(listener) | Listener::PassedTcp(listener) = listener {
        dispatch.prepare(listener)?;
    }
    for inbox in &dispatch.inboxes {
        let listener = listener.share(dispatch.shared.driver)?;
        let listen = Box::new(Listen { listener, dispatch: dispatch.clone() });
        let told = inbox.try_send(WorkerEvent::Listen(listen));
        told.map_err(|_| io::Error::other("a worker takes no listener"))?;
    }
    Ok(())
}

/// Accepts for one worker.
pub(super) async fn accept_all(worker: Rc<Worker>, Listen { listener, dispatch }: Listen) {
    let listener: Accepting = match listener.adopt() {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a listener can't be waited on"),
    };
    while !dispatch.is_over() {
        let off = worker.off.borrow().handle();
        match listener.accept(off).await {
            Ok((stream, peer)) => dispatch.hand_over(&worker, stream, peer),
            Err(_) if dispatch.is_over() => return,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // Called off, for the sake of another listener.
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => {}
            Err(error) => {
                tracing::warn!(%error, "accepting failed");
                monoio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Dispatch {
    /// Whether nobody may connect any more.
    fn is_over(&self) -> bool {
        let left = self.is_passed && self.shared.leaving.load(Ordering::Acquire);
        left || self.shared.draining.load(Ordering::Acquire) || self.state.is_removed()
    }

    fn hand_over(&self, worker: &Rc<Worker>, stream: TcpStream, peer: Option<IpAddr>) {
        if self.shared.sessions() >= self.shared.limits.max_connections {
            worker.metrics().login_refused("sessions");
            refuse(stream, TOO_MANY);
            return;
        }
        let Some(unproven) = self.shared.logins.begin(peer.unwrap_or(THIS_MACHINE)) else {
            worker.metrics().login_refused("unfinished");
            refuse(stream, TOO_MANY_LOGINS);
            return;
        };
        // Accepted sockets block, whatever their listener does.
        let nonblocking = self.shared.driver.wants_nonblocking();
        if let Err(error) = stream.set_nonblocking(nonblocking) {
            tracing::debug!(%error, "a connection was gone before its session began");
            return;
        }
        let Some((least, load)) = self.least_loaded(worker.index) else { return };
        load.fetch_add(1, Ordering::Relaxed);
        let (id, target) = (self.ids.next(), self.target);
        let accepted = Accepted { stream, target, peer, id, unproven };
        if least == worker.index {
            return worker.accept(accepted);
        }
        let event = WorkerEvent::Accepted(accepted);
        let sent = self.inboxes.get(least).map(|inbox| inbox.try_send(event));
        if let Some(Err(unsent)) = sent {
            load.fetch_sub(1, Ordering::Relaxed);
            if let WorkerEvent::Accepted(Accepted { stream, .. }) = unsent.into_inner() {
                worker.metrics().login_refused("sessions");
                refuse(stream, TOO_MANY);
            }
        }
    }

    /// This worker, unless another one has fewer sessions.
    fn least_loaded(&self, own: usize) -> Option<(usize, &AtomicUsize)> {
        let loads = self.shared.loads.iter().enumerate();
        loads.min_by_key(|(at, load)| (load.load(Ordering::Relaxed), *at != own))
    }

    /// What every accepted socket inherits: small packets go out at once, and peers that vanished or stopped reading
    /// are noticed.
    fn prepare(&self, listener: &TcpListener) -> io::Result<()> {
        let socket = SockRef::from(listener);
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&keepalive::asking(self.shared.limits.keepalive))?;
        // The kernel ends a connection whose peer takes no byte for so long, be it gone or its window closed: a
        // deadline of every write that takes neither a timer nor a look at a clock.
        socket.set_tcp_user_timeout(Some(self.shared.limits.write_timeout))
    }
}

/// Tells a client that there is no room, without waiting for it.
fn refuse(mut stream: TcpStream, why: &[u8]) {
    if stream.set_nonblocking(true).is_ok() {
        let _ = stream.write(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_whole_packet() {
        for packet in [TOO_MANY, TOO_MANY_LOGINS] {
            assert_eq!(usize::from(packet[0]), packet.len() - 4);
            assert_eq!(u16::from_le_bytes([packet[5], packet[6]]), 1040);
        }
    }

    #[test]
    fn ids_differ_and_fit_json() {
        let ids = SessionIds::new();
        let (first, second) = (ids.next(), ids.next());
        assert_eq!(first + 1, second);
        assert!(second < 1 << 53);
    }
}
