//! What clients connect to: a TCP address, or a Unix socket's file; and how a worker waits on one.
//!
//! One that was passed on to this process lives on after it. It is never shut down, which would end it for the next process
//! as well: what waits on it is called off instead.

use std::io;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::{FromRawFd as _, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use monoio::io::CancelHandle;
use socket2::SockRef;

use super::driver::DriverKind;
use crate::socket::SocketFile;

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// An address.
    Tcp(TcpListener),
    /// A file, which goes with the listener.
    Unix(UnixListener, SocketFile),
    /// An address, passed on.
    PassedTcp(TcpListener),
    /// A file, passed on.
    PassedUnix(UnixListener),
}

impl Listener {
    /// The same, for one worker. All of them wait on it, and the kernel wakes one for each connection.
    pub(super) fn share(&self, driver: DriverKind) -> io::Result<Shared> {
        Ok(match self {
            Self::Tcp(listener) | Self::PassedTcp(listener) => {
                listener.set_nonblocking(driver.wants_nonblocking())?;
                Shared::Tcp(listener.try_clone()?)
            }
            Self::Unix(listener, _) | Self::PassedUnix(listener) => {
                listener.set_nonblocking(driver.wants_nonblocking())?;
                Shared::Unix(listener.try_clone()?)
            }
        })
    }

    /// Whether it lives on after this process.
    pub(super) fn is_passed(&self) -> bool {
        matches!(self, Self::PassedTcp(_) | Self::PassedUnix(_))
    }

    /// Makes every accept that waits return, unless it was passed on.
    pub(super) fn shut_down(&self) {
        let both = std::net::Shutdown::Both;
        let _ = match self {
            Self::Tcp(listener) => SockRef::from(listener).shutdown(both),
            Self::Unix(listener, _) => SockRef::from(listener).shutdown(both),
            Self::PassedTcp(_) | Self::PassedUnix(_) => Ok(()),
        };
    }
}

/// A listener on its way to a worker.
pub(super) enum Shared {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Shared {
    /// Waits on it by this thread's driver.
    pub(super) fn adopt(self) -> io::Result<Accepting> {
        Ok(match self {
            Self::Tcp(listener) => Accepting::Tcp(monoio::net::TcpListener::from_std(listener)?),
            Self::Unix(listener) => Accepting::Unix(monoio::net::UnixListener::from_std(listener)?),
        })
    }
}

/// Where a worker waits for connections.
pub(super) enum Accepting {
    Tcp(monoio::net::TcpListener),
    Unix(monoio::net::UnixListener),
}

impl Accepting {
    /// The next connection and its address, which those of a Unix socket have not. All that is asked of either kind from
    /// here on is to receive, send and shut down, so one type does for both. It belongs to no thread yet. Called off, it ends
    /// with an error, or with a connection that came just before.
    pub(super) async fn accept(
        &self,
        off: CancelHandle,
    ) -> io::Result<(TcpStream, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.cancelable_accept(off).await?;
                Ok((free(stream), Some(peer.ip().to_canonical())))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.cancelable_accept(off).await?;
                Ok((free(stream), None))
            }
        }
    }
}

/// Takes a socket out of this thread's driver, in which nothing was begun on it.
fn free(stream: impl IntoRawFd) -> TcpStream {
    // SAFETY: `into_raw_fd` gives the socket up, which is open, and nobody else knows its number.
    #[allow(unsafe_code, reason = "monoio gives sockets up by their number only")]
    let socket = unsafe { OwnedFd::from_raw_fd(stream.into_raw_fd()) };
    TcpStream::from(socket)
}
