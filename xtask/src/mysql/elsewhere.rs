//! A server that someone else runs, for the tests to run on in place of private ones.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};

use super::Tree;

/// `host:port:user:password` of the server. Its user may create users and databases; databases of the tests' names
/// (`shop`, `other`) are dropped.
pub const ELSEWHERE: &str = "ROWGATE_TEST_MYSQL";

/// One test's turn on the server.
#[derive(Debug)]
pub(super) struct Elsewhere {
    host: String,
    server_port: u16,
    user: String,
    password: String,
    /// Of loopback, where the gateway speaks without TLS: a relay leads on.
    pub(super) port: u16,
    _turn: MutexGuard<'static, ()>,
}

impl Elsewhere {
    /// Waits for the turn, if the variable is set.
    pub(super) fn take() -> Result<Option<Self>> {
        static TURN: Mutex<()> = Mutex::new(());
        let Ok(place) = std::env::var(ELSEWHERE) else { return Ok(None) };
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = || format!("{ELSEWHERE} wants host:port:user:password");
        let mut parts = place.splitn(4, ':').map(str::to_owned);
        let mut part = || parts.next().with_context(wanted);
        let (host, server_port) = (part()?, part()?.parse().with_context(wanted)?);
        let (user, password) = (part()?, part()?);
        let port = relay((host.clone(), server_port))?;
        let here = Self { host, server_port, user, password, port, _turn: turn };
        super::sql(here.client(&Tree::here()?), "DROP DATABASE IF EXISTS other")?;
        Ok(Some(here))
    }

    pub(super) fn client(&self, tree: &Tree) -> Command {
        let mut client = tree.program("mysql");
        client.args(["--no-defaults", "--protocol=tcp", "--get-server-public-key"]);
        client.arg(format!("--host={}", self.host)).arg(format!("--port={}", self.server_port));
        client.arg(format!("--user={}", self.user)).env("MYSQL_PWD", &self.password);
        client
    }
}

/// Listens on loopback and leads each connection to the server, for as long as the process lives.
fn relay(server: (String, u16)) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect((server.0.as_str(), server.1)) else { continue };
            let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { continue };
            thread::spawn(move || pump(from, to));
            thread::spawn(move || pump(server, client));
        }
    });
    Ok(port)
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
