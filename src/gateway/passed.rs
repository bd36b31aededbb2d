//! Listeners that systemd holds and passes on (`man sd_listen_fds`): whoever connects while one process ends and the next
//! one starts waits in their queue, and is refused by nobody.
//!
//! Which one is whose is told by where it listens, not by its name: what the configuration says of an address, such as
//! whether it asks for TLS, holds for that address and no other.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use listenfd::ListenFd;
use rustix::process::{getegid, geteuid};
use socket2::SockRef;

use super::GatewayError;
use crate::net::Listener;
use crate::socket::Access;

/// Most that are looked at: a service has no more than a few.
const MAX_PASSED: usize = 1_024;

/// Those that nobody has claimed yet.
#[derive(Debug, Default)]
pub(super) struct Passed {
    tcp: Vec<TcpListener>,
    unix: Vec<UnixListener>,
}

impl Passed {
    /// Takes over what was passed to this process, if anything was. Once, and before there is another thread: it changes
    /// the environment.
    pub(super) fn take() -> Result<Self, GatewayError> {
        let mut fds = ListenFd::from_env();
        let mut passed = Self::default();
        let wrong = |at: usize| {
            let text = format!(
                "the file descriptor {} that was passed on (LISTEN_FDS) is no listener; \
                 give the .socket unit nothing but ListenStream=",
                at + 3
            );
            GatewayError::Input(text)
        };
        for at in 0..fds.len().min(MAX_PASSED) {
            if let Ok(Some(unix)) = fds.take_unix_listener(at) {
                passed.unix.push(unix);
            } else if let Ok(Some(tcp)) = fds.take_tcp_listener(at) {
                passed.tcp.push(tcp);
            } else {
                return Err(wrong(at));
            }
            let unix = passed.unix.iter().map(SockRef::from);
            if !unix.chain(passed.tcp.iter().map(SockRef::from)).all(|s| is_listener(&s)) {
                return Err(wrong(at));
            }
        }
        Ok(passed)
    }

    /// The one that listens at this address.
    pub(super) fn tcp(&mut self, address: SocketAddr) -> Option<Listener> {
        let is_it = |listener: &TcpListener| listener.local_addr().is_ok_and(|own| own == address);
        let at = self.tcp.iter().position(is_it)?;
        Some(Listener::PassedTcp(self.tcp.swap_remove(at)))
    }

    /// The one that listens at this path. An error where more may open it than the configuration lets.
    pub(super) fn unix(&mut self, path: &Path, access: Access) -> Result<Option<Listener>, String> {
        let is_it = |listener: &UnixListener| {
            listener.local_addr().is_ok_and(|own| own.as_pathname() == Some(path))
        };
        let Some(at) = self.unix.iter().position(is_it) else { return Ok(None) };
        let facts = std::fs::symlink_metadata(path).map_err(|error| error.to_string())?;
        let (mode, uid, gid) = (facts.mode() & 0o777, facts.uid(), facts.gid());
        let is_ours =
            |id: u32, wanted: Option<u32>, own: u32| id == 0 || id == wanted.unwrap_or(own);
        let fits = mode & !access.mode == 0
            && is_ours(uid, access.uid, geteuid().as_raw())
            && (mode & 0o070 == 0 || is_ours(gid, access.gid, getegid().as_raw()));
        if !fits {
            return Err(format!(
                "{} was passed on as {uid}:{gid} with the rights {mode:o}, which lets others in than \
                 socket_mode {:o}, socket_uid and socket_gid do; set SocketMode=, SocketUser= and \
                 SocketGroup= of the .socket unit to the same",
                path.display(),
                access.mode
            ));
        }
        Ok(Some(Listener::PassedUnix(self.unix.swap_remove(at))))
    }

    /// An error if one was claimed by nobody: its clients would wait for ever.
    pub(super) fn all_claimed(&self, file: &Path) -> Result<(), GatewayError> {
        let tcp = self.tcp.iter().map(|listener| match listener.local_addr() {
            Ok(address) => address.to_string(),
            Err(error) => error.to_string(),
        });
        let unix = self.unix.iter().map(|listener| match listener.local_addr() {
            Ok(address) => {
                address.as_pathname().map_or_else(String::new, |p| p.display().to_string())
            }
            Err(error) => error.to_string(),
        });
        let Some(left) = tcp.chain(unix).next() else { return Ok(()) };
        let text = format!(
            "targets: {left} was passed on (LISTEN_FDS), but no target listens there; \
             let ListenStream= of the .socket unit and listen or socket of a target be the same"
        );
        Err(GatewayError::in_file(file, text))
    }
}

fn is_listener(socket: &SockRef<'_>) -> bool {
    socket.is_listener().unwrap_or(false)
}
