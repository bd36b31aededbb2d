//! Whose connection it is: the peer's own, or the one that a balancer in front names in its PROXY header.
//!
//! Whether there must be a header follows from who connects, and is never guessed from what is sent: otherwise a client
//! behind a balancer that forgot it could bring one of its own.

use std::net::IpAddr;

use crate::codec::ProxyHeader;
use crate::net::acceptor::TOO_MANY_LOGINS;
use crate::net::control::{Control, End};
use crate::net::io::{Leg, Port};
use crate::net::logins::Unproven;
use crate::net::worker::Worker;

/// Before the greeting an error has no SQLSTATE.
const NO_HEADER: &[u8] =
    b"\x46\0\0\0\xff\x84\x04Rowgate: from this address, a connection begins with a PROXY header";

/// Whose connection it is, and its place among the unfinished logins. `None`: it may not go on, and has been told.
pub(super) async fn arrive(
    worker: &Worker,
    control: &Control,
    peer: Option<IpAddr>,
    unproven: Unproven,
    client: &mut Leg,
    port: &mut dyn Port,
) -> Option<(Option<IpAddr>, Unproven)> {
    let shared = &worker.shared;
    let is_proxy = |peer| shared.proxies.iter().any(|network| network.contains(peer));
    let Some(proxy) = peer.filter(|peer| is_proxy(*peer)) else { return Some((peer, unproven)) };
    // A box, since few connections take this way and all would keep room for it.
    let refused = match Box::pin(header(worker, control, client, port)).await {
        Ok(None) => return Some((peer, unproven)),
        Ok(Some(source)) => {
            // It has been counted as the balancer's, which is everyone's.
            drop(unproven);
            if let Some(unproven) = shared.logins.begin(source) {
                return Some((Some(source), unproven));
            }
            worker.metrics().login_refused("unfinished");
            TOO_MANY_LOGINS
        }
        Err(Refusal::Gone) => return None,
        Err(Refusal::NoHeader) => {
            tracing::info!(%proxy, "a connection without a PROXY header was refused");
            worker.metrics().login_refused("proxy");
            NO_HEADER
        }
    };
    // Without waiting for who does not read it.
    let _ = client.write_now(refused, &worker.buffers);
    None
}

enum Refusal {
    NoHeader,
    Gone,
}

/// Reads the header, before anything else is looked at and within the login's time.
async fn header(
    worker: &Worker,
    control: &Control,
    client: &mut Leg,
    port: &mut dyn Port,
) -> Result<Option<IpAddr>, Refusal> {
    loop {
        match ProxyHeader::parse(client.peek()) {
            Ok(Some(header)) => {
                client.consume(header.len);
                return Ok(header.source.map(|source| source.to_canonical()));
            }
            Ok(None) if client.eof => return Err(Refusal::Gone),
            Ok(None) => {}
            Err(_) => return Err(Refusal::NoHeader),
        }
        if !port.is_armed() {
            port.arm(client.lend(client.len() + 1, &worker.buffers));
        }
        let done = std::future::poll_fn(|cx| match control.ended() {
            Some(End::LoginTimeout) => std::task::Poll::Ready(Err(Refusal::NoHeader)),
            Some(_) => std::task::Poll::Ready(Err(Refusal::Gone)),
            None => port.poll_done(cx).map(Ok),
        });
        let (result, buffer) = done.await?;
        client.absorb(result, buffer, &worker.buffers).map_err(|_| Refusal::Gone)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_whole_packet() {
        assert_eq!(usize::from(NO_HEADER[0]), NO_HEADER.len() - 4);
    }
}
