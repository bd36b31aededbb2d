//! Reading and writing: every place where a session waits for one of its sockets.

use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use monoio::BufResult;

use super::{Activity, Pump, Stop};
use crate::fault::Fault;
use crate::net::buffers::LARGE;
use crate::net::control::{Control, End};
use crate::session::Side;

/// A client that does not take its last words within this time is left alone.
const FAREWELL: Duration = Duration::from_secs(1);

/// What woke a session that waits for the database.
enum Wake {
    Server(BufResult<usize, Vec<u8>>),
    Client(BufResult<usize, Vec<u8>>),
    Ended(Stop),
}

impl Pump {
    /// Waits until `at_least` bytes of the client are there (and more than now).
    pub(super) fn read_client(
        &mut self,
        at_least: usize,
    ) -> impl Future<Output = Result<(), Stop>> {
        let want = at_least.max(self.client.len() + 1);
        let idle = self.session.is_idle();
        // A drain does not wait for who is idle, or has not logged in.
        let may_end = idle || !self.session.is_logged_in();
        async move {
            if idle && self.upstream.as_ref().is_some_and(|upstream| !upstream.leg.is_used_up()) {
                return Err(lost("the database spoke out of turn"));
            }
            if idle {
                let patience = self.worker.shared.limits.idle_timeout;
                self.control.must_end_by(self.now.after(patience), End::IdleTimeout);
                self.control.may_give_back_from(self.gives_back_at());
                if self.client.len() == 0 {
                    self.settle();
                }
                self.client.next_turn();
            }
            loop {
                // (The last read may have been begun when less was wanted.)
                let gathered = self.client.gather(want, &self.worker.buffers);
                gathered.map_err(|_| Stop::ClientGone)?;
                if self.client.len() >= want {
                    break;
                }
                if self.client.eof {
                    return Err(Stop::ClientGone);
                }
                if self.client.owes() {
                    // A handshake's flight: a box, so that idle sessions keep no room for it.
                    Box::pin(self.flush_client()).await?;
                }
                if !self.port.is_armed() {
                    let buffer = self.client.lend(want, &self.worker.buffers);
                    self.port.arm(buffer);
                }
                let (control, port) = (&self.control, &mut self.port);
                let done = std::future::poll_fn(|cx| {
                    let ended = if may_end { control.ended() } else { control.ended_hard() };
                    if let Some(end) = ended {
                        return Poll::Ready(Err(Stop::Ended(end)));
                    }
                    match port.poll_done(cx) {
                        Poll::Pending if control.is_asked_back() => Poll::Ready(Ok(None)),
                        done => done.map(|done| Ok(Some(done))),
                    }
                });
                let Some((result, buffer)) = done.await? else {
                    self.give_back();
                    continue;
                };
                self.absorb_client(result, buffer)?;
            }
            self.now = self.worker.now();
            if idle {
                self.control.in_time();
                self.activity(Activity::Running);
                self.current.arrived(self.now);
            }
            Ok(())
        }
    }

    /// An idle session holds a small buffer, and nothing else.
    fn settle(&mut self) {
        self.activity(Activity::Idle);
        let buffers = &self.worker.buffers;
        self.client.settle(buffers);
        if let Some(upstream) = &mut self.upstream {
            upstream.leg.settle(buffers);
        }
        if self.out.is_empty() {
            buffers.give(std::mem::take(&mut self.out));
        }
        if let Some(spare) = self.session.take_spare() {
            self.worker.spares.give(spare);
        }
    }

    pub(super) fn absorb_client(
        &mut self,
        result: std::io::Result<usize>,
        buffer: Vec<u8>,
    ) -> Result<(), Stop> {
        let absorbed = self.client.absorb(result, buffer, &self.worker.buffers);
        absorbed.map_err(|_| Stop::ClientGone)
    }

    async fn flush_client(&mut self) -> Result<(), Stop> {
        let flushed = self.client.flush(&self.worker.buffers);
        until_ended(&self.control, flushed).await?.map_err(|_| Stop::ClientGone)
    }

    async fn flush_server(&mut self) -> Result<(), Stop> {
        let Self { worker, control, upstream, .. } = self;
        let Some(upstream) = upstream else { return Err(not_there()) };
        let flushed = until_ended(control, upstream.leg.flush(&worker.buffers)).await?;
        flushed.map_err(|_| lost("the connection to the database broke"))
    }

    /// Waits until `at_least` bytes of the database are there (and more than now), and watches over the client.
    #[allow(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
    pub(super) fn read_server(
        &mut self,
        at_least: usize,
    ) -> impl Future<Output = Result<(), Stop>> {
        async move {
            loop {
                let Some(upstream) = &mut self.upstream else { return Err(not_there()) };
                let want = at_least.max(upstream.leg.len() + 1);
                let gathered = upstream.leg.gather(want, &self.worker.buffers);
                gathered.map_err(|_| lost("the database sent a damaged compressed packet"))?;
                if upstream.leg.len() >= want {
                    return Ok(());
                }
                if upstream.leg.eof {
                    return Err(lost("the database closed the connection"));
                }
                let (result, buffer) = self.read_server_once(want).await?;
                let Some(upstream) = &mut self.upstream else { return Err(not_there()) };
                let absorbed = upstream.leg.absorb(result, buffer, &self.worker.buffers);
                absorbed.map_err(|_| lost("the connection to the database broke"))?;
                if !self.current.has_first_byte() {
                    self.now = self.worker.now();
                    self.current.first_byte(self.now);
                }
                if upstream.leg.len() >= want {
                    return Ok(());
                }
            }
        }
    }

    /// One read of the database, however long it takes. It is never dropped while the connection lives.
    #[allow(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
    fn read_server_once(
        &mut self,
        want: usize,
    ) -> impl Future<Output = Result<BufResult<usize, Vec<u8>>, Stop>> {
        async move {
            if self.upstream.as_ref().is_some_and(|upstream| upstream.leg.owes()) {
                Box::pin(self.flush_server()).await?;
            }
            loop {
                match std::future::poll_fn(|cx| self.poll_server(want, cx)).await {
                    Wake::Server(done) => return Ok(done),
                    Wake::Ended(stop) => return Err(stop),
                    Wake::Client((result, buffer)) => {
                        self.absorb_client(result, buffer)?;
                        if self.client.eof {
                            return Err(Stop::ClientGone);
                        }
                    }
                }
            }
        }
    }

    fn poll_server(&mut self, want: usize, cx: &mut Context<'_>) -> Poll<Wake> {
        let Self { worker, control, client, port, upstream, .. } = self;
        let Some(upstream) = upstream else { return Poll::Ready(Wake::Ended(not_there())) };
        if !upstream.port.is_armed() {
            upstream.port.arm(upstream.leg.lend(want, &worker.buffers));
        }
        // Pipelined commands wait in the socket once this much has piled up.
        if !port.is_armed() && client.has_room() {
            port.arm(client.lend_aside(&worker.buffers));
        }
        if let Some(end) = control.ended_hard() {
            return Poll::Ready(Wake::Ended(Stop::Ended(end)));
        }
        if let Poll::Ready(done) = upstream.port.poll_done(cx) {
            return Poll::Ready(Wake::Server(done));
        }
        port.poll_done(cx).map(Wake::Client)
    }

    /// Awaits `wait`, and the client's death.
    pub(super) async fn while_client_lives<T>(
        &mut self,
        wait: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let mut wait = pin!(wait);
        let Self { worker, control, client, port, .. } = self;
        loop {
            if !port.is_armed() && client.has_room() {
                port.arm(client.lend_aside(&worker.buffers));
            }
            let mut heard = None;
            let waited = std::future::poll_fn(|cx| {
                if let Some(end) = control.ended_hard() {
                    return Poll::Ready(Some(Err(Stop::Ended(end))));
                }
                if let Poll::Ready(value) = wait.as_mut().poll(cx) {
                    return Poll::Ready(Some(Ok(value)));
                }
                port.poll_done(cx).map(|done| {
                    heard = Some(done);
                    None
                })
            });
            if let Some(result) = waited.await {
                return result;
            }
            if let Some((result, buffer)) = heard {
                let absorbed = client.absorb(result, buffer, &worker.buffers);
                if absorbed.is_err() || client.eof {
                    return Err(Stop::ClientGone);
                }
            }
        }
    }

    /// Writes the first `n` bytes that `from` sent to the other side, from where they stand.
    pub(super) async fn forward(&mut self, from: Side, n: usize) -> Result<(), Stop> {
        if from == Side::Server && self.current.gate.is_some() {
            Box::pin(self.may_release()).await?;
        }
        let Self { worker, client, upstream, responding, cut, current, session, .. } = self;
        let Some(upstream) = upstream else { return Err(not_there()) };
        *responding |= from == Side::Client;
        let (source, sink) = match from {
            Side::Client => (&mut *client, &mut upstream.leg),
            Side::Server => (&mut upstream.leg, &mut *client),
        };
        let bytes = source.peek();
        let bytes = bytes.get(..n).unwrap_or(bytes);
        if from == Side::Server && current.records_answer() {
            let at = (self.id, self.now.wall_us);
            current.released(worker, at, session.capabilities().0, bytes)?;
        }
        let (len, now) = (bytes.len(), sink.write_now(bytes, &worker.buffers));
        let sent = now.map_err(|_| gone(from))?;
        source.consume(sent);
        if sent < len || sink.owes() {
            *cut = from == Side::Server;
            self.control.must_write_by(self.write_deadline(from));
            // A peer that is slower than the other: a box, so that idle sessions don't keep room for it.
            Box::pin(self.forward_rest(from, len - sent)).await?;
            self.control.must_write_by(0);
            self.cut = false;
        }
        self.after_write(n).await;
        Ok(())
    }

    /// By when the client must have taken what waits for it. 0: over TCP the kernel sees to it, see the acceptor.
    fn write_deadline(&self, from: Side) -> u64 {
        if from == Side::Client || self.address.is_some() {
            return 0;
        }
        self.worker.now().after(self.worker.shared.limits.write_timeout)
    }

    /// The same for what the socket did not take at once.
    async fn forward_rest(&mut self, from: Side, n: usize) -> Result<(), Stop> {
        let Self { worker, control, client, upstream, .. } = self;
        let Some(upstream) = upstream else { return Err(not_there()) };
        let (source, sink) = match from {
            Side::Client => (client, &mut upstream.leg),
            Side::Server => (&mut upstream.leg, client),
        };
        let (buffer, start) = source.take_plain();
        let written =
            until_ended(control, sink.write_rest(buffer, start..start + n, &worker.buffers));
        let (result, buffer) = written.await?;
        source.put_plain(buffer, start);
        source.consume(n);
        result.map_err(|_| gone(from))
    }

    /// Writes what the session has written by itself.
    pub(super) async fn emit(&mut self, to: Side) -> Result<(), Stop> {
        if to == Side::Client && self.current.gate.is_some() {
            Box::pin(self.may_release()).await?;
        }
        let from = if to == Side::Client { Side::Server } else { Side::Client };
        let Self { worker, client, upstream, out, responding, cut, current, session, .. } = self;
        if to == Side::Client && current.records_answer() {
            current.released(worker, (self.id, self.now.wall_us), session.capabilities().0, out)?;
        }
        let sink = match (to, upstream) {
            (Side::Client, _) => client,
            (Side::Server, Some(upstream)) => {
                *responding = true;
                &mut upstream.leg
            }
            (Side::Server, None) => return Err(not_there()),
        };
        let sent = sink.write_now(out, &worker.buffers).map_err(|_| gone(from))?;
        let len = out.len();
        if sent < len || sink.owes() {
            *cut = to == Side::Client;
            self.control.must_write_by(self.write_deadline(from));
            Box::pin(self.emit_rest(to, sent)).await?;
            self.control.must_write_by(0);
            self.cut = false;
        }
        self.out.clear();
        self.after_write(len).await;
        Ok(())
    }

    /// The same for what the socket did not take at once.
    async fn emit_rest(&mut self, to: Side, sent: usize) -> Result<(), Stop> {
        let Self { worker, control, client, upstream, out, .. } = self;
        let (sink, from) = match (to, upstream) {
            (Side::Client, _) => (client, Side::Server),
            (Side::Server, Some(upstream)) => (&mut upstream.leg, Side::Client),
            (Side::Server, None) => return Err(not_there()),
        };
        let buffer = std::mem::take(out);
        let rest = sent..buffer.len();
        let written = until_ended(control, sink.write_rest(buffer, rest, &worker.buffers)).await;
        let (result, buffer) = written?;
        *out = buffer;
        result.map_err(|_| gone(from))
    }

    /// A stream that never waits must not starve its neighbours; where each read goes through the ring, it does wait.
    async fn after_write(&self, n: usize) {
        if n >= LARGE / 2 && self.worker.shared.driver.wants_nonblocking() {
            Box::pin(crate::net::io::step_aside()).await;
        }
    }

    /// The last packet to a client, without much patience.
    pub(super) async fn farewell(&mut self) -> Result<(), Stop> {
        let buffer = std::mem::take(&mut self.out);
        let all = 0..buffer.len();
        let write = self.client.write(buffer, all, &self.worker.buffers);
        let written = monoio::time::timeout(FAREWELL, write).await;
        let (result, _) = written.map_err(|_| Stop::ClientGone)?;
        result.map_err(|_| Stop::ClientGone)
    }
}

/// Awaits a write, unless the session is ended. A write that is given up closes its connection.
pub(super) async fn until_ended<T>(
    control: &Control,
    wait: impl Future<Output = T>,
) -> Result<T, Stop> {
    let mut wait = pin!(wait);
    std::future::poll_fn(|cx| match control.ended_hard() {
        Some(end) => Poll::Ready(Err(Stop::Ended(end))),
        None => wait.as_mut().poll(cx).map(Ok),
    })
    .await
}

/// Who is gone when a write of what `from` sent fails.
fn gone(from: Side) -> Stop {
    match from {
        Side::Client => lost("the connection to the database broke"),
        Side::Server => Stop::ClientGone,
    }
}

fn not_there() -> Stop {
    lost("it is not there")
}

pub(super) fn lost(why: &str) -> Stop {
    Stop::UpstreamLost(Fault::upstream_lost(why))
}
