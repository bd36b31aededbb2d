//! Accepting: a thread a listener hands each connection to the least loaded worker.
//!
//! One thread that chooses keeps workers even (SO_REUSEPORT alone skewed them by up to twice the mean) and costs
//! about 25 µs a connection. It blocks in `accept`; stopping shuts the listening socket down, which wakes it.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use socket2::SockRef;
use tokio::sync::mpsc;

use super::listener::{Accepting, Listener};
use super::worker::{Accepted, WorkerEvent};
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
pub(super) struct Dispatch {
    pub(super) target: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) inboxes: Vec<mpsc::Sender<WorkerEvent>>,
    pub(super) ids: Arc<SessionIds>,
}

/// A running acceptor.
pub(super) struct Acceptor {
    listener: Listener,
    thread: JoinHandle<()>,
}

impl Acceptor {
    /// Accepts on this listener from now on.
    pub(super) fn start(listener: Listener, dispatch: Dispatch) -> io::Result<Self> {
        if let Listener::Tcp(listener) = &listener {
            dispatch.prepare(listener)?;
        }
        let accepting = listener.accepting()?;
        let name = format!("accept-{}", dispatch.target);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            accept_all(&accepting, &dispatch);
        })?;
        Ok(Self { listener, thread })
    }

    /// Closes the listener and waits for the thread.
    pub(super) fn stop(self) {
        self.listener.shut_down();
        let _ = self.thread.join();
    }
}

fn accept_all(listener: &Accepting, dispatch: &Dispatch) {
    while !dispatch.shared.draining.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((stream, peer)) => dispatch.hand_over(stream, peer),
            Err(_) if dispatch.shared.draining.load(Ordering::Acquire) => return,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "accepting failed");
                std::thread::sleep(PAUSE);
            }
        }
    }
}

impl Dispatch {
    fn hand_over(&self, stream: TcpStream, peer: Option<IpAddr>) {
        if self.shared.sessions() >= self.shared.limits.max_connections {
            refuse(stream, TOO_MANY);
            return;
        }
        let Some(unproven) = self.shared.logins.begin(peer.unwrap_or(THIS_MACHINE)) else {
            refuse(stream, TOO_MANY_LOGINS);
            return;
        };
        // Accepted sockets block, whatever their listener does.
        let nonblocking = self.shared.driver.wants_nonblocking();
        let set = if nonblocking { stream.set_nonblocking(true) } else { Ok(()) };
        if let Err(error) = set {
            tracing::debug!(%error, "a connection was gone before its session began");
            return;
        }
        let loads = self.shared.loads.iter().enumerate();
        let Some((worker, load)) = loads.min_by_key(|(_, load)| load.load(Ordering::Relaxed))
        else {
            return;
        };
        load.fetch_add(1, Ordering::Relaxed);
        let id = self.ids.next();
        let target = self.target;
        let event = WorkerEvent::Accepted(Accepted { stream, target, peer, id, unproven });
        let sent = self.inboxes.get(worker).map(|inbox| inbox.try_send(event));
        if let Some(Err(unsent)) = sent {
            load.fetch_sub(1, Ordering::Relaxed);
            if let WorkerEvent::Accepted(Accepted { stream, .. }) = unsent.into_inner() {
                refuse(stream, TOO_MANY);
            }
        }
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
