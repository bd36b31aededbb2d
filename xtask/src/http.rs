//! One request over HTTP to a server on loopback that the chores started.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::Result;

/// A server that says nothing for so long says nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks, and hears the answer to its end: status and body. (HTTP/1.0, so that nothing comes in chunks.)
pub fn ask(
    port: u16,
    method: &str,
    path: &str,
    body: Option<(&str, &str)>,
) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n")?;
    match body {
        Some((kind, text)) => {
            let length = text.len();
            write!(stream, "Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{text}")?;
        }
        None => write!(stream, "\r\n")?,
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}
