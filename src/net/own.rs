//! The gateway's own conversations with a database: what a machine of `session::upstream` asks for, carried out on a
//! connection that is nobody's yet, or nobody's any more.

use std::sync::Arc;

use super::buffers::Buffers;
use super::io::{Leg, Port};
use super::records::{Records, TlsFault};
use super::tls::UpstreamTls;
use crate::fault::Fault;
use crate::session::upstream::{Op, Step};

/// A connection before it is anyone's.
pub(super) struct Wire {
    pub(super) leg: Leg,
    pub(super) port: Box<dyn Port>,
}

impl Wire {
    /// The same as [`converse`], on this connection.
    pub(super) async fn converse(
        &mut self,
        buffers: &Buffers,
        first: Vec<u8>,
        tls: &UpstreamTls,
        step: impl FnMut(&[u8], &mut Vec<u8>) -> Step,
    ) -> Result<(), Fault> {
        converse(&mut self.leg, &mut *self.port, buffers, first, tls, step).await
    }
}

/// Sends `first`, then does what the machine behind `step` asks for until it is done.
pub(super) async fn converse(
    leg: &mut Leg,
    port: &mut dyn Port,
    buffers: &Buffers,
    first: Vec<u8>,
    tls: &UpstreamTls,
    mut step: impl FnMut(&[u8], &mut Vec<u8>) -> Step,
) -> Result<(), Fault> {
    let broken = |_| Fault::upstream_down("the connection to the database broke");
    let mut out = first;
    loop {
        if !out.is_empty() {
            let all = 0..out.len();
            let (sent, buffer) = leg.write(out, all, buffers).await;
            sent.map_err(broken)?;
            out = buffer;
            out.clear();
        }
        let Step { consumed, op } = step(leg.bytes(), &mut out);
        leg.consume(consumed);
        match op {
            Op::Read { at_least } => read(leg, port, buffers, at_least).await?,
            Op::Emit => {}
            Op::StartTls => {
                let all = 0..out.len();
                let (sent, mut buffer) = leg.write(out, all, buffers).await;
                sent.map_err(broken)?;
                buffer.clear();
                out = buffer;
                start_tls(leg, tls)?;
                while !leg.is_ready() {
                    read_once(leg, port, buffers, 1).await?;
                }
            }
            Op::Done => {
                buffers.give(out);
                return Ok(());
            }
            Op::Failed(fault) => return Err(fault),
        }
    }
}

async fn read(
    leg: &mut Leg,
    port: &mut dyn Port,
    buffers: &Buffers,
    at_least: usize,
) -> Result<(), Fault> {
    let want = at_least.max(leg.len() + 1);
    loop {
        let gathered = leg.gather(want, buffers);
        gathered.map_err(|_| Fault::upstream_down("the database sent a damaged packet"))?;
        if leg.len() >= want {
            return Ok(());
        }
        read_once(leg, port, buffers, want).await?;
    }
}

async fn read_once(
    leg: &mut Leg,
    port: &mut dyn Port,
    buffers: &Buffers,
    want: usize,
) -> Result<(), Fault> {
    if leg.eof {
        return Err(Fault::upstream_down("the database closed the connection"));
    }
    leg.flush(buffers).await.map_err(|_| Fault::upstream_down("the connection broke"))?;
    if !port.is_armed() {
        port.arm(leg.lend(want, buffers));
    }
    let (result, buffer) = std::future::poll_fn(|cx| port.poll_done(cx)).await;
    leg.absorb(result, buffer, buffers).map_err(|error| {
        // rustls's reasons name no secrets, and tell a wrong certificate from a wrong network.
        Fault::upstream_down(&format!("the connection to the database broke: {error}"))
    })
}

fn start_tls(leg: &mut Leg, tls: &UpstreamTls) -> Result<(), Fault> {
    let UpstreamTls::On { config, name } = tls else { return Err(Fault::internal()) };
    leg.start_tls(|received| {
        if !received.is_empty() {
            return Err(TlsFault::State); // bytes put in before TLS began
        }
        Records::client(Arc::clone(config), name.clone())
    })
    .map_err(|error| Fault::upstream_down(&error.to_string()))
}
