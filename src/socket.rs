//! A Unix socket's file: who may open it, what a crash left of it, and its end.
//!
//! Who connects is not asked here: the rights on the file say who may, not who it is.

use std::io::{self, ErrorKind};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use socket2::{Domain, SockAddr, Socket, Type};

/// Connections that may wait to be accepted; the kernel's own limit (`net.core.somaxconn`) may be lower.
const BACKLOG: i32 = 1_024;

/// The rights on a socket's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// As of chmod.
    pub mode: u32,
    /// The user it belongs to; none: who makes it.
    pub uid: Option<u32>,
    /// The group it belongs to; none: that of who makes it.
    pub gid: Option<u32>,
}

/// Why a socket can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Someone answers on it.
    #[error("another process answers on {0}")]
    InUse(PathBuf),
    /// Something that isn't a socket is in the way.
    #[error("{0} is there and not a socket")]
    NotASocket(PathBuf),
    /// It can't be made.
    #[error("{path}: {source}")]
    Refused {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The socket's file, removed at the end unless another process has put its own there since.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    mark: Option<Mark>,
}

/// What tells one file from another of the same path: an inode's number alone is given out again at once.
type Mark = (u64, Option<SystemTime>);

fn mark(path: &Path) -> Option<Mark> {
    let facts = std::fs::symlink_metadata(path).ok()?;
    Some((facts.ino(), facts.created().ok()))
}

/// Listens on `path`. A file that nobody answers on is a crash's remains, and is replaced.
pub fn listen(path: &Path, access: Access) -> Result<(UnixListener, SocketFile), SocketError> {
    let refused = |source| SocketError::Refused { path: path.to_owned(), source };
    clear_stale(path)?;
    make_folder(path).map_err(refused)?;
    make(path, access).map_err(refused)
}

fn make(path: &Path, access: Access) -> io::Result<(UnixListener, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.to_owned(), mark: mark(path) };
    set_mode(path, access.mode)?;
    if access.uid.is_some() || access.gid.is_some() {
        std::os::unix::fs::chown(path, access.uid, access.gid)?;
    }
    // Only now: before, nobody gets in whom the rights will keep out.
    socket.listen(BACKLOG)?;
    Ok((std::os::fd::OwnedFd::from(socket).into(), file))
}

/// Changes the rights of a socket that is there.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.mark.is_some() && mark(&self.path) == self.mark {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn clear_stale(path: &Path) -> Result<(), SocketError> {
    let refused = |source| SocketError::Refused { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
        Ok(facts) if !facts.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(refused)
        }
        Err(error) => Err(refused(error)),
    }
}

/// Makes the socket's own folder (`/run/rowgate` is gone after a boot), but not those above it.
fn make_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.exists() => {
            std::fs::DirBuilder::new().mode(0o755).create(folder)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Access = Access { mode: 0o600, uid: None, gid: None };

    #[test]
    fn the_file_has_its_rights_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new folder/a.sock");
        for mode in [0o600, 0o660, 0o666] {
            let (_listener, file) = listen(&path, Access { mode, ..OWN }).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, mode);
            assert!(matches!(listen(&path, OWN), Err(SocketError::InUse(_))));
            drop(file);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_crash_s_remains_are_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        // What std binds leaves its file behind.
        drop(UnixListener::bind(&path).unwrap());
        let (listener, old) = listen(&path, OWN).unwrap();
        drop(listener);
        let (_listener, _new) = listen(&path, OWN).unwrap();
        drop(old);
        assert!(path.exists(), "it is another's by now");
        let file = folder.path().join("a file");
        std::fs::write(&file, "precious").unwrap();
        assert!(matches!(listen(&file, OWN), Err(SocketError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    }
}
