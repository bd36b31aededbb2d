//! What clients connect to: a TCP address, or a Unix socket's file.

use std::io;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use socket2::SockRef;

use crate::socket::SocketFile;

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// An address.
    Tcp(TcpListener),
    /// A file, which goes with the listener.
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// The same, for the thread that waits.
    pub(super) fn accepting(&self) -> io::Result<Accepting> {
        Ok(match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(false)?;
                Accepting::Tcp(listener.try_clone()?)
            }
            Self::Unix(listener, _) => Accepting::Unix(listener.try_clone()?),
        })
    }

    /// Makes a blocked accept return.
    pub(super) fn shut_down(&self) {
        let both = std::net::Shutdown::Both;
        let _ = match self {
            Self::Tcp(listener) => SockRef::from(listener).shutdown(both),
            Self::Unix(listener, _) => SockRef::from(listener).shutdown(both),
        };
    }
}

/// Where connections are waited for.
pub(super) enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Accepting {
    /// The next connection and its address, which those of a Unix socket have not. All that is asked of either kind from here
    /// on is to receive, send and shut down, so one type does for both.
    pub(super) fn accept(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                listener.accept().map(|(stream, peer)| (stream, Some(peer.ip().to_canonical())))
            }
            Self::Unix(listener) => {
                listener.accept().map(|(stream, _)| (TcpStream::from(OwnedFd::from(stream)), None))
            }
        }
    }
}
