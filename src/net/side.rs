//! A side connection to a target, blocking, on a thread of its own: the gateway's own few queries. It drives the same
//! sans-I/O login as the pools do.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use super::credentials::{Credentials, Keyed};
use super::target::socket_path;
use super::tls::{UpstreamTls, fingerprint};
use crate::catalog::{QUERIES, Raw, Rows};
use crate::clock::now_us;
use crate::codec::{Capabilities, ProxyHeader};
use crate::fault::Fault;
use crate::session::UpstreamKey;
use crate::session::upstream::{Login, Op, Query, Step};

/// What the gateway's own connections ask for: no flags that change results, utf8mb4.
const KEY: UpstreamKey = UpstreamKey { capabilities: 0, collation: 45 };

/// What [`Fault::upstream_lost`] is numbered.
const LOST: u16 = 1158;

/// A connection is kept so long: what a server says in its greeting is heard anew then.
const KEPT: Duration = Duration::from_secs(10);

/// A target to look at.
#[derive(Clone, Debug)]
pub struct SideTarget {
    /// `host:port`, or `unix:` and a path.
    pub address: String,
    /// What the gateway logs in with.
    pub credentials: Arc<Credentials>,
    /// TLS towards it.
    pub tls: UpstreamTls,
    /// Connections begin with a PROXY header.
    pub proxy_protocol: bool,
}

/// An open side connection.
pub struct SideConnection {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
    made: Instant,
    /// What the greeting had.
    capabilities: Capabilities,
}

/// What TLS a connection has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.3`.
    pub version: String,
    /// The cipher suite's name.
    pub cipher: String,
    /// `sha256:…` of the database's certificate.
    pub fingerprint: String,
}

trait Stream: Read + Write + Send {
    fn tls(&self) -> Option<TlsFacts>;
}

impl Stream for TcpStream {
    fn tls(&self) -> Option<TlsFacts> {
        None
    }
}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn tls(&self) -> Option<TlsFacts> {
        let version = self.conn.protocol_version().and_then(|version| version.as_str());
        let suite = self.conn.negotiated_cipher_suite().map(|suite| suite.suite());
        let certificate = self.conn.peer_certificates().and_then(<[_]>::first);
        Some(TlsFacts {
            version: version.unwrap_or_default().replace('_', "."),
            cipher: suite.and_then(|suite| suite.as_str()).unwrap_or_default().to_owned(),
            fingerprint: certificate.map(fingerprint).unwrap_or_default(),
        })
    }
}

impl SideTarget {
    /// Describes the target's schema over `connection`, which is made when it is `None` and dropped when it fails.
    /// `patience` bounds each read.
    pub fn describe(
        &self,
        connection: &mut Option<SideConnection>,
        patience: Duration,
    ) -> Result<Raw, Fault> {
        let answers = (0..QUERIES.len())
            .map(|at| self.query(connection, &Raw::query(at).unwrap_or_default(), patience))
            .collect::<Result<Vec<Rows>, Fault>>()?;
        let mut raw =
            Raw::read(&answers).map_err(|error| Fault::upstream_lost(&error.to_string()))?;
        let seen = connection.as_ref().map(|open| open.capabilities.0 & Capabilities::OF_TARGET);
        raw.profile.capabilities = seen;
        Ok(raw)
    }

    /// Runs one query of the gateway's own.
    pub fn query(
        &self,
        connection: &mut Option<SideConnection>,
        sql: &str,
        patience: Duration,
    ) -> Result<Rows, Fault> {
        // One that was kept may have been closed meanwhile: that says nothing of the database.
        let kept = connection.take().filter(|kept| kept.made.elapsed() < KEPT);
        let kept = kept.and_then(|mut kept| match kept.query(sql) {
            Err(fault) if fault.code == LOST => None,
            answer => Some((kept, answer)),
        });
        let (open, answer) = if let Some(answered) = kept {
            answered
        } else {
            let mut new = self.connect(patience)?;
            let answer = new.query(sql);
            (new, answer)
        };
        let rows = answer?;
        *connection = Some(open);
        Ok(rows)
    }

    /// By the newest credential, or by the one before while both may be good.
    fn connect(&self, patience: Duration) -> Result<SideConnection, Fault> {
        let attempts = self.credentials.attempts(now_us());
        let (first, second) = attempts.map_err(|fault| match self.credentials.why_missing() {
            Some(why) => Fault::upstream_down(&why),
            None => fault,
        })?;
        let mut refused = false;
        let made = self.log_in(self.reach(patience)?, &first, &mut refused);
        match second.filter(|_| refused) {
            Some(second) => self.log_in(self.reach(patience)?, &second, &mut refused),
            None => made,
        }
    }

    fn reach(&self, patience: Duration) -> Result<TcpStream, Fault> {
        let down = |error: &dyn std::fmt::Display| Fault::upstream_down(&error.to_string());
        let bound = |stream: TcpStream| {
            let read = stream.set_read_timeout(Some(patience));
            read.and_then(|()| stream.set_write_timeout(Some(patience))).map(|()| stream)
        };
        if let Some(path) = socket_path(&self.address) {
            // Either kind of stream is only read and written from here on.
            let stream = UnixStream::connect(path).map(|s| TcpStream::from(OwnedFd::from(s)));
            return stream.and_then(bound).map_err(|error| down(&error));
        }
        let addresses = self.address.to_socket_addrs().map_err(|error| down(&error))?;
        let mut last = down(&"its name resolves to nothing");
        for address in addresses {
            match TcpStream::connect_timeout(&address, patience) {
                Ok(stream) => {
                    let stream = bound(stream).map_err(|error| down(&error))?;
                    stream.set_nodelay(true).map_err(|error| down(&error))?;
                    return Ok(stream);
                }
                Err(error) => last = down(&error),
            }
        }
        Err(last)
    }

    fn log_in(
        &self,
        mut stream: TcpStream,
        keyed: &Keyed,
        refused: &mut bool,
    ) -> Result<SideConnection, Fault> {
        if self.proxy_protocol {
            let mut own = Vec::new();
            ProxyHeader::write(&mut own, None);
            stream.write_all(&own).map_err(|error| lost(&error))?;
        }
        let channel = self.tls.channel(&self.address);
        let mut login = Login::new(keyed.account.clone(), KEY, channel);
        let mut plain = Some(stream.try_clone().map_err(|error| lost(&error))?);
        let mut connection = SideConnection {
            stream: Box::new(stream),
            received: Vec::new(),
            made: Instant::now(),
            capabilities: Capabilities::default(),
        };
        let mut out = Vec::new();
        loop {
            let step = login.on_bytes(&connection.received, &mut out);
            if login.was_refused() {
                *refused = true;
                self.credentials.refused(keyed.generation, now_us());
            }
            match connection.carry_out(step, &mut out)? {
                Turn::Again => {}
                Turn::Done => {
                    let found = login.established().map(|found| found.capabilities);
                    connection.capabilities = found.unwrap_or_default();
                    self.credentials.taken(keyed.generation);
                    return Ok(connection);
                }
                Turn::StartTls => {
                    connection.stream.write_all(&out).map_err(|error| lost(&error))?;
                    out.clear();
                    let stream = plain.take().ok_or_else(Fault::internal)?;
                    connection.stream = Box::new(self.encrypt(stream)?);
                }
            }
        }
    }

    fn encrypt(
        &self,
        stream: TcpStream,
    ) -> Result<StreamOwned<ClientConnection, TcpStream>, Fault> {
        let UpstreamTls::On { config, name } = &self.tls else { return Err(Fault::internal()) };
        let client = ClientConnection::new(config.clone(), name.clone());
        Ok(StreamOwned::new(client.map_err(|error| lost(&error))?, stream))
    }
}

enum Turn {
    Again,
    Done,
    StartTls,
}

impl SideConnection {
    /// How it is protected; none: not by TLS.
    pub fn tls(&self) -> Option<TlsFacts> {
        self.stream.tls()
    }

    fn query(&mut self, sql: &str) -> Result<Rows, Fault> {
        let mut out = Vec::new();
        let mut query = Query::start(&mut out, sql);
        self.stream.write_all(&out).map_err(|error| lost(&error))?;
        out.clear();
        loop {
            let step = query.on_bytes(&self.received);
            if let Turn::Done = self.carry_out(step, &mut out)? {
                return Ok(query.into_rows());
            }
        }
    }

    fn carry_out(&mut self, step: Step, out: &mut Vec<u8>) -> Result<Turn, Fault> {
        self.received.drain(..step.consumed.min(self.received.len()));
        match step.op {
            Op::Read { at_least } => {
                while self.received.len() < at_least {
                    let mut buffer = [0; 16 << 10];
                    let read = self.stream.read(&mut buffer).map_err(|error| lost(&error))?;
                    if read == 0 {
                        return Err(lost(&"the database closed the connection"));
                    }
                    self.received.extend_from_slice(buffer.get(..read).unwrap_or_default());
                }
                Ok(Turn::Again)
            }
            Op::Emit => {
                self.stream.write_all(out).map_err(|error| lost(&error))?;
                out.clear();
                Ok(Turn::Again)
            }
            Op::StartTls => Ok(Turn::StartTls),
            Op::Done => Ok(Turn::Done),
            Op::Failed(fault) => Err(fault),
        }
    }
}

fn lost(error: &dyn std::fmt::Display) -> Fault {
    Fault::upstream_lost(&error.to_string())
}
