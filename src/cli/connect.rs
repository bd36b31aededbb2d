//! `rowgate connect`: the stock client, with the session password of `rowgate login` in a defaults file. That is in memory
//! only, for this user and its process alone, so nothing is left behind and nothing secret is among the arguments or in the
//! environment.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{MemfdFlags, memfd_create};
use zeroize::Zeroizing;

use super::CliError;
use super::kept::Kept;
use super::login_args::ConnectArgs;
use crate::clock::now_us;

/// Tried in this order.
const CLIENTS: [&str; 2] = ["mysql", "mariadb"];

/// Becomes the client. What comes back is why not.
pub(super) fn connect(args: &ConnectArgs) -> CliError {
    match command(args) {
        Ok(mut client) => {
            let error = client.exec();
            let name = client.get_program().display();
            CliError::failed(format!("{name}: {error}; name a client with --client"))
        }
        Err(error) => error,
    }
}

fn command(args: &ConnectArgs) -> Result<Command, CliError> {
    let kept = Kept::read(&Kept::path()?)?;
    let now_us = now_us();
    let kept = kept.filter(|kept| kept.session.info.is_live(now_us)).ok_or_else(|| {
        let text =
            "nobody is signed in, or not any more; sign in with `rowgate login --gateway URL`";
        CliError::failed(text)
    })?;
    let text = Zeroizing::new(kept.defaults(&kept.way(Some(&args.target))?));
    let file = in_memory(&text).map_err(|error| {
        CliError::failed(format!("the client's defaults can't be handed over: {error}"))
    })?;
    let mut client = Command::new(program(args.client.clone())?);
    client.arg(format!("--defaults-extra-file=/dev/fd/{}", file.as_raw_fd())).args(&args.arguments);
    // The client opens it by this number.
    std::mem::forget(file);
    Ok(client)
}

/// A file without a name, which the next program inherits. Clients pass over one that others may write.
fn in_memory(text: &str) -> std::io::Result<File> {
    let mut file = File::from(memfd_create("client.cnf", MemfdFlags::empty())?);
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// The one that was named, or the first stock client that is there.
fn program(named: Option<PathBuf>) -> Result<PathBuf, CliError> {
    if let Some(named) = named {
        return Ok(named);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &&str| std::env::split_paths(&path).any(|at| at.join(name).is_file());
    CLIENTS.iter().find(|name| there(name)).map(PathBuf::from).ok_or_else(|| {
        CliError::input("neither mysql nor mariadb is on this machine; name a client with --client")
    })
}
