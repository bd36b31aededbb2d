//! One connection: login, commands, and answers that are counted and thrown away.
//!
//! It knows what these measurements need of the protocol and no more: packets under 16 MiB, no compression.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::digest::{self, Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use rustls::HandshakeKind;

use crate::tls::{Tls, TlsStream};

/// Who logs in, and where.
#[derive(Clone)]
pub(crate) struct Login {
    pub port: u16,
    pub user: String,
    pub password: String,
    /// Empty: none.
    pub database: String,
    pub tls: Option<Tls>,
}

/// LONG_PASSWORD, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH.
const CAPABILITIES: u32 = 1 | 0x200 | 0x2000 | 0x8000 | 0x8_0000;
const CONNECT_WITH_DB: u32 = 8;
const CLIENT_SSL: u32 = 0x800;
/// Asked for where it is offered, as drivers do.
const DEPRECATE_EOF: u32 = 0x100_0000;
const UTF8MB4: u8 = 45;

/// A server that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// What an idle connection has; streams read into more.
const SMALL: usize = 4096;
const LARGE: usize = 256 * 1024;

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// A connection that is logged in.
pub(crate) struct Wire {
    io: Io,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    deprecate_eof: bool,
    out: Vec<u8>,
}

/// What an answer was, and its size on the wire.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer {
    pub rows: u64,
    pub bytes: u64,
}

struct Greeting {
    capabilities: u32,
    scramble: Vec<u8>,
    plugin: Vec<u8>,
}

impl Wire {
    pub(crate) fn connect(login: &Login) -> Result<Self> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, login.port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut wire = Self {
            io: Io::Plain(socket),
            buffer: vec![0; SMALL],
            start: 0,
            end: 0,
            deprecate_eof: false,
            out: Vec::new(),
        };
        wire.log_in(login)?;
        Ok(wire)
    }

    fn log_in(&mut self, login: &Login) -> Result<()> {
        let (_, packet) = self.packet().context("reading the greeting")?;
        let greeting = Greeting::parse(&packet)?;
        self.deprecate_eof = greeting.capabilities & DEPRECATE_EOF != 0;
        let mut capabilities = CAPABILITIES | (greeting.capabilities & DEPRECATE_EOF);
        if !login.database.is_empty() {
            capabilities |= CONNECT_WITH_DB;
        }
        let mut sequence = 1;
        if let Some(tls) = &login.tls {
            ensure!(greeting.capabilities & CLIENT_SSL != 0, "the server offers no TLS");
            capabilities |= CLIENT_SSL;
            self.send(sequence, &head(capabilities))?;
            sequence += 1;
            let Io::Plain(socket) = &self.io else { bail!("TLS within TLS") };
            self.io = Io::Tls(Box::new(tls.wrap(socket.try_clone()?)?));
        }
        let proof = proof(&greeting.plugin, &login.password, &greeting.scramble)?;
        let mut response = head(capabilities);
        response.extend(login.user.bytes().chain([0, u8::try_from(proof.len())?]));
        response.extend(&proof);
        if !login.database.is_empty() {
            response.extend(login.database.bytes().chain([0]));
        }
        response.extend(greeting.plugin.iter().chain(&[0]));
        self.send(sequence, &response)?;
        loop {
            let (sequence, packet) = self.packet().context("reading the login's answer")?;
            match packet.as_slice() {
                [0, ..] => return Ok(()),
                [1, 3] => {}
                [1, 4] if login.tls.is_some() => {
                    let whole: Vec<u8> = login.password.bytes().chain([0]).collect();
                    self.send(sequence + 1, &whole)?;
                }
                [0xFE, switch @ ..] => {
                    let (plugin, rest) = cut(switch)?;
                    let scramble = rest.get(..20).context("a short scramble")?;
                    self.send(sequence + 1, &proof_of(plugin, login, scramble)?)?;
                }
                other => return Err(refused(other)),
            }
        }
    }

    /// Whether the TLS session is an earlier one taken up again.
    pub(crate) fn is_resumed(&self) -> bool {
        match &self.io {
            Io::Plain(_) => false,
            Io::Tls(stream) => stream.conn.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// Streams need a buffer that holds many rows.
    pub(crate) fn enlarge(&mut self) {
        self.buffer.resize(LARGE, 0);
    }

    /// Runs a statement's text, and throws its rows away.
    pub(crate) fn query(&mut self, text: &str) -> Result<Answer> {
        self.command(3, text.as_bytes())?;
        self.answer()
    }

    /// Prepares a statement of one parameter: its id.
    pub(crate) fn prepare(&mut self, text: &str) -> Result<u32> {
        self.command(0x16, text.as_bytes())?;
        let (_, packet) = self.packet()?;
        let [0, a, b, c, d, columns @ .., _, _, _] = packet.as_slice() else {
            return Err(refused(&packet));
        };
        let id = u32::from_le_bytes([*a, *b, *c, *d]);
        let [columns, _, parameters, _] = columns else { bail!("an odd answer to PREPARE") };
        for count in [parameters, columns] {
            let eof = usize::from(*count > 0 && !self.deprecate_eof);
            for _ in 0..usize::from(*count) + eof {
                self.skip()?;
            }
        }
        Ok(id)
    }

    /// Executes it with a whole number; the parameter's type goes along the first time only.
    pub(crate) fn execute(&mut self, id: u32, value: i32, is_first: bool) -> Result<Answer> {
        let mut body = [0; 17];
        body[..4].copy_from_slice(&id.to_le_bytes());
        body[5] = 1;
        body[10] = u8::from(is_first);
        let mut length = 11;
        if is_first {
            body[length] = 3;
            length += 2;
        }
        body[length..length + 4].copy_from_slice(&value.to_le_bytes());
        self.command(0x17, &body[..length + 4])?;
        self.answer()
    }

    /// Says goodbye, as drivers do.
    pub(crate) fn quit(mut self) -> Result<()> {
        self.command(1, &[])
    }

    fn answer(&mut self) -> Result<Answer> {
        let (_, packet) = self.packet()?;
        let columns = match packet.as_slice() {
            [0, ..] => return Ok(Answer::default()),
            [columns] => *columns,
            other => return Err(refused(other)),
        };
        let mut answer = Answer::default();
        for _ in 0..usize::from(columns) + usize::from(!self.deprecate_eof) {
            answer.bytes += self.skip()?.1;
        }
        loop {
            // A row that starts with 0xFE has a cell of 16 MiB, which these tables have not.
            let (first, length) = self.skip()?;
            answer.bytes += length;
            match first {
                0xFE => return Ok(answer),
                0xFF => bail!("an error in the middle of rows"),
                _ => answer.rows += 1,
            }
        }
    }

    fn command(&mut self, code: u8, body: &[u8]) -> Result<()> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        frame(&mut out, 0, body.len() + 1)?;
        out.push(code);
        out.extend(body);
        self.out = out;
        self.flush()
    }

    fn send(&mut self, sequence: u8, payload: &[u8]) -> Result<()> {
        self.out.clear();
        frame(&mut self.out, sequence, payload.len())?;
        self.out.extend(payload);
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        match &mut self.io {
            Io::Plain(socket) => socket.write_all(&self.out)?,
            Io::Tls(stream) => {
                stream.write_all(&self.out)?;
                stream.flush()?;
            }
        }
        Ok(())
    }

    /// A whole packet: its sequence number and payload.
    fn packet(&mut self) -> Result<(u8, Vec<u8>)> {
        let length = self.header()?;
        let sequence = self.buffer[self.start + 3];
        while self.end - self.start < 4 + length {
            self.fill()?;
        }
        let payload = self.buffer[self.start + 4..self.start + 4 + length].to_vec();
        self.start += 4 + length;
        Ok((sequence, payload))
    }

    /// Passes over a packet: the first byte of its payload, and its size with its header.
    fn skip(&mut self) -> Result<(u8, u64)> {
        let length = self.header()?;
        while self.end - self.start < 5 {
            self.fill()?;
        }
        let first = self.buffer[self.start + 4];
        let mut left = 4 + length;
        loop {
            let here = left.min(self.end - self.start);
            self.start += here;
            left -= here;
            if left == 0 {
                return Ok((first, u64::try_from(4 + length)?));
            }
            self.fill()?;
        }
    }

    fn header(&mut self) -> Result<usize> {
        while self.end - self.start < 4 {
            self.fill()?;
        }
        let [a, b, c] = [0, 1, 2].map(|at| self.buffer[self.start + at]);
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        ensure!(length > 0, "an empty packet");
        Ok(length)
    }

    fn fill(&mut self) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end == self.buffer.len() {
                self.buffer.resize(2 * self.end, 0);
            }
        }
        let room = &mut self.buffer[self.end..];
        let read = match &mut self.io {
            Io::Plain(socket) => socket.read(room)?,
            Io::Tls(stream) => stream.read(room)?,
        };
        ensure!(read > 0, "the server hung up");
        self.end += read;
        Ok(())
    }
}

impl Greeting {
    fn parse(packet: &[u8]) -> Result<Self> {
        let Some((10, rest)) = packet.split_first() else { return Err(refused(packet)) };
        let (_version, rest) = cut(rest)?;
        let at = |from: usize, to: usize| rest.get(from..to).context("a short greeting");
        let low = u32::from(at(13, 14)?[0]) | u32::from(at(14, 15)?[0]) << 8;
        let high = u32::from(at(18, 19)?[0]) | u32::from(at(19, 20)?[0]) << 8;
        let scramble = [at(4, 12)?, at(31, 43)?].concat();
        let plugin = rest.get(44..).unwrap_or_default();
        let plugin = plugin.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        Ok(Self { capabilities: low | high << 16, scramble, plugin })
    }
}

fn head(capabilities: u32) -> Vec<u8> {
    let mut head = capabilities.to_le_bytes().to_vec();
    head.extend(0xFF_FFFF_u32.to_le_bytes());
    head.push(UTF8MB4);
    head.extend([0; 23]);
    head
}

fn frame(out: &mut Vec<u8>, sequence: u8, length: usize) -> Result<()> {
    let [a, b, c, 0] = u32::try_from(length)?.to_le_bytes() else { bail!("a long packet") };
    out.extend([a, b, c, sequence]);
    Ok(())
}

fn cut(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0).context("a text without its end")?;
    Ok((&bytes[..end], &bytes[end + 1..]))
}

fn refused(packet: &[u8]) -> anyhow::Error {
    let text = packet.get(3..).unwrap_or_default();
    anyhow::anyhow!("the server answered {:?}", String::from_utf8_lossy(text))
}

fn proof_of(plugin: &[u8], login: &Login, scramble: &[u8]) -> Result<Vec<u8>> {
    proof(plugin, &login.password, scramble)
}

fn proof(plugin: &[u8], password: &str, scramble: &[u8]) -> Result<Vec<u8>> {
    match plugin {
        b"mysql_native_password" => Ok(masked(&SHA1_FOR_LEGACY_USE_ONLY, password, scramble, true)),
        b"caching_sha2_password" => Ok(masked(&SHA256, password, scramble, false)),
        other => bail!("this client knows no {}", String::from_utf8_lossy(other)),
    }
}

/// H(password) under the mask of H of the scramble and H(H(password)), in the plugin's order.
fn masked(
    algorithm: &'static Algorithm,
    password: &str,
    scramble: &[u8],
    scramble_first: bool,
) -> Vec<u8> {
    let once = digest::digest(algorithm, password.as_bytes());
    let twice = digest::digest(algorithm, once.as_ref());
    let parts =
        if scramble_first { [scramble, twice.as_ref()] } else { [twice.as_ref(), scramble] };
    let mask = digest::digest(algorithm, &parts.concat());
    once.as_ref().iter().zip(mask.as_ref()).map(|(a, b)| a ^ b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_check_of_a_native_proof_holds() {
        let scramble = [7; 20];
        let proof = proof(b"mysql_native_password", "secret", &scramble).unwrap();
        let sha1 = |bytes: &[u8]| digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
        let stored = sha1(sha1(b"secret").as_ref());
        let mask = sha1(&[&scramble[..], stored.as_ref()].concat());
        let once: Vec<u8> = proof.iter().zip(mask.as_ref()).map(|(a, b)| a ^ b).collect();
        assert_eq!(sha1(&once).as_ref(), stored.as_ref());
    }
}
