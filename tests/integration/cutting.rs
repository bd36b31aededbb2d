//! What stands between peers in the simulated-pair tests: a relay in front of the real database that delays, resets or
//! cuts short one connection at one byte, and a client that does so to itself.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rowgate::codec::{
    Capabilities, Handshake, Header, LoginRequest, PrepareOk, Reply, write_frame,
};

use crate::wire::{PLAIN, Packet, native};

/// What happens at the byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Nothing passes for a moment.
    Delay,
    /// Both connections are reset.
    Reset,
    /// This direction ends here; the other stays open.
    CutShort,
}

/// Which of the bytes of a connection are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Gateway,
    Peer,
}

/// One fault: at this byte of what comes from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) by: By,
    pub(crate) at: usize,
    pub(crate) act: Act,
}

/// How long a delay is: long enough for the other side to have to wait for the rest.
const DELAY: Duration = Duration::from_millis(2);

/// Ends a connection as a crash of its peer would. (A close would only do so once the last copy of the socket is gone.)
pub(crate) fn reset(stream: &TcpStream) {
    let _ = rustix::net::connect_unspec(stream);
}

/// What a relay shares with its threads.
#[derive(Default)]
struct Shared {
    /// For the next connection.
    fault: Mutex<Option<Fault>>,
    happened: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
    /// Bytes of the newest connection: from the gateway, from the database.
    passed: [AtomicUsize; 2],
}

/// A relay in front of a database.
pub(crate) struct Cutter {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Cutter {
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for gateway in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else {
                    continue;
                };
                own.relay(gateway, server);
            }
        });
        Self { port, shared }
    }

    /// Ends what is open, and arms a fault for the connection that comes next.
    pub(crate) fn arm(&self, fault: Option<Fault>) {
        *self.shared.fault.lock().unwrap() = None;
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.shared.happened.store(false, Ordering::SeqCst);
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// Whether the fault has happened.
    pub(crate) fn happened(&self) -> bool {
        self.shared.happened.load(Ordering::SeqCst)
    }

    /// Bytes of the newest connection: from the gateway, from the database.
    pub(crate) fn passed(&self) -> [usize; 2] {
        [0, 1].map(|at| self.shared.passed[at].load(Ordering::SeqCst))
    }
}

impl Shared {
    fn relay(self: &Arc<Self>, gateway: TcpStream, server: TcpStream) {
        let fault = self.fault.lock().unwrap().take();
        let copy = |stream: &TcpStream| {
            stream.set_nodelay(true).unwrap();
            stream.try_clone().unwrap()
        };
        self.open.lock().unwrap().extend([copy(&gateway), copy(&server)]);
        self.passed.iter().for_each(|passed| passed.store(0, Ordering::SeqCst));
        let (to_gateway, to_server) = (copy(&gateway), copy(&server));
        for (by, source, sink) in
            [(By::Gateway, gateway, to_server), (By::Peer, server, to_gateway)]
        {
            let shared = Arc::clone(self);
            let fault = fault.filter(|fault| fault.by == by);
            thread::spawn(move || shared.pump(by, source, sink, fault));
        }
    }

    fn pump(&self, by: By, mut source: TcpStream, mut sink: TcpStream, fault: Option<Fault>) {
        let passed = &self.passed[usize::from(by == By::Peer)];
        let mut fault = fault;
        let (mut buffer, mut total) = ([0; 16 << 10], 0);
        loop {
            // A fault at the first byte happens before anything was read.
            let room = fault.map_or(buffer.len(), |fault| (fault.at - total).min(buffer.len()));
            if let Some(Fault { act, .. }) = fault.filter(|fault| fault.at == total) {
                fault = None;
                self.happened.store(true, Ordering::SeqCst);
                match act {
                    Act::Delay => thread::sleep(DELAY),
                    Act::Reset => {
                        reset(&sink);
                        reset(&source);
                        return;
                    }
                    Act::CutShort => {
                        let _ = sink.shutdown(Shutdown::Write);
                        return;
                    }
                }
                continue;
            }
            match source.read(&mut buffer[..room]) {
                Ok(read) if read > 0 && sink.write_all(&buffer[..read]).is_ok() => {
                    total += read;
                    passed.store(total, Ordering::SeqCst);
                }
                _ => break,
            }
        }
        let _ = sink.shutdown(Shutdown::Write);
    }
}

/// How a conversation ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything was said.
    Whole,
    /// By a fault of the client's own.
    Own,
    /// The gateway closed the connection, or reset it.
    Closed,
    /// Nothing came for [`PATIENCE`].
    Hung,
}

/// Nothing here takes longer, however loaded the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client heard after the greeting.
#[derive(Debug)]
pub(crate) struct Heard {
    /// Whole packets; statement ids are made 0.
    pub(crate) packets: Vec<Packet>,
    /// What came of one more.
    pub(crate) part: Vec<u8>,
    pub(crate) ending: Ending,
    pub(crate) sent: usize,
    pub(crate) received: usize,
}

/// One step of a conversation.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    Query(&'static str),
    Prepare(&'static str),
    /// Of the statement prepared last, with one integer.
    Execute(i32),
    Close,
    Quit,
}

/// A client in mid conversation.
struct Talk {
    stream: TcpStream,
    fault: Option<Fault>,
    heard: Heard,
    statement: u32,
}

/// Holds a conversation, byte by byte if `drips`, with a fault of the client's own or none.
pub(crate) fn converse(
    port: u16,
    token: &str,
    say: &[Say],
    fault: Option<Fault>,
    drips: bool,
) -> Heard {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = Heard {
        packets: Vec::new(),
        part: Vec::new(),
        ending: Ending::Whole,
        sent: 0,
        received: 0,
    };
    let mut talk = Talk { stream, fault, heard, statement: 0 };
    if let Err(ending) = talk.hold(token, say, drips) {
        talk.heard.ending = ending;
    }
    talk.heard
}

impl Talk {
    fn hold(&mut self, token: &str, say: &[Say], drips: bool) -> Result<(), Ending> {
        let (_, greeting) = self.packet()?;
        self.heard.packets.clear();
        let scramble = Handshake::parse(&greeting).unwrap().scramble;
        let login = LoginRequest {
            capabilities: Capabilities(PLAIN),
            max_packet: 1 << 30,
            collation: 45,
            user: "bot",
            auth_response: &native(token, &scramble),
            schema: Some("shop"),
            plugin: Some("mysql_native_password"),
            attributes: Vec::new(),
        };
        let mut out = Vec::new();
        write_frame(&mut out, 1, |out| login.write(out));
        self.send(&out, drips)?;
        if self.packet()?.1.first() != Some(&0) {
            return self.ended();
        }
        for say in say {
            let payload = match say {
                Say::Query(sql) => [&[3], sql.as_bytes()].concat(),
                Say::Prepare(sql) => [&[0x16], sql.as_bytes()].concat(),
                Say::Execute(parameter) => {
                    let id = self.statement.to_le_bytes();
                    let head = [0, 1, 0, 0, 0, 0, 1, 3, 0];
                    [&[0x17][..], &id, &head, &parameter.to_le_bytes()].concat()
                }
                Say::Close => [&[0x19][..], &self.statement.to_le_bytes()].concat(),
                Say::Quit => vec![1],
            };
            let mut out = Vec::new();
            write_frame(&mut out, 0, |out| out.extend_from_slice(&payload));
            self.send(&out, drips)?;
            match say {
                Say::Query(_) | Say::Execute(_) => self.answer()?,
                Say::Prepare(_) => self.prepared()?,
                Say::Close | Say::Quit => {}
            }
        }
        loop {
            match self.packet() {
                Ok(_) => {}
                Err(Ending::Closed) => return Ok(()),
                Err(ending) => return Err(ending),
            }
        }
    }

    /// After an error in place of a greeting's answer, the connection closes.
    fn ended(&mut self) -> Result<(), Ending> {
        self.packet().map(drop)
    }

    fn send(&mut self, bytes: &[u8], drips: bool) -> Result<(), Ending> {
        let (mut bytes, mut own) = (bytes, None);
        if let Some(fault) = self.fault.filter(|fault| fault.by == By::Peer)
            && let Some(cut) =
                fault.at.checked_sub(self.heard.sent).filter(|cut| *cut < bytes.len())
        {
            (bytes, own) = (&bytes[..cut], Some(fault));
        }
        let step = if drips { 1 } else { bytes.len().max(1) };
        for piece in bytes.chunks(step) {
            // A gateway that has closed may still have said why.
            let _ = self.stream.write_all(piece);
        }
        self.heard.sent += bytes.len();
        own.map_or(Ok(()), |fault| self.fail(fault))
    }

    fn fail(&self, fault: Fault) -> Result<(), Ending> {
        match fault.act {
            Act::Reset => reset(&self.stream),
            Act::CutShort => {
                let _ = self.stream.shutdown(Shutdown::Write);
            }
            Act::Delay => unreachable!("the client is patient"),
        }
        Err(Ending::Own)
    }

    /// More of what the gateway sends.
    fn read(&mut self) -> Result<(), Ending> {
        let mut buffer = [0; 4 << 10];
        let mut room = buffer.len();
        if let Some(fault) = self.fault.filter(|fault| fault.by == By::Gateway) {
            room = room.min(fault.at - self.heard.received);
            if room == 0 {
                return self.fail(fault);
            }
        }
        match self.stream.read(&mut buffer[..room]) {
            Ok(0) => Err(Ending::Closed),
            Ok(read) => {
                self.heard.received += read;
                self.heard.part.extend_from_slice(&buffer[..read]);
                Ok(())
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(Ending::Hung),
                _ => Err(Ending::Closed),
            },
        }
    }

    fn packet(&mut self) -> Result<Packet, Ending> {
        loop {
            let found = Header::parse(&self.heard.part)
                .and_then(|header| Some((header, header.payload(&self.heard.part)?.to_vec())));
            if let Some((header, payload)) = found {
                self.heard.part.drain(..header.total());
                self.heard.packets.push((header.seq, payload.clone()));
                return Ok((header.seq, payload));
            }
            self.read()?;
        }
    }

    fn answer(&mut self) -> Result<(), Ending> {
        let (_, first) = self.packet()?;
        let plain = Capabilities(PLAIN);
        let Ok(Reply::Columns { count, .. }) = Reply::parse(&first, plain) else { return Ok(()) };
        for _ in 0..=count {
            self.packet()?;
        }
        loop {
            let (_, payload) = self.packet()?;
            if payload.first() == Some(&0xFF) || payload.len() == 5 && payload[0] == 0xFE {
                return Ok(());
            }
        }
    }

    fn prepared(&mut self) -> Result<(), Ending> {
        let (_, first) = self.packet()?;
        let Ok(ok) = PrepareOk::parse(&first, Capabilities(PLAIN)) else { return Ok(()) };
        self.statement = ok.statement_id;
        if let Some((_, kept)) = self.heard.packets.last_mut() {
            kept[1..5].fill(0);
        }
        for count in [ok.parameters, ok.columns] {
            for _ in 0..count + u16::from(count > 0) {
                self.packet()?;
            }
        }
        Ok(())
    }
}
