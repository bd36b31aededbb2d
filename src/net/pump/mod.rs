//! The session's task: asks `session` what to do with what has arrived and carries it out, one operation at a time.
//!
//! Half-duplex: a command is read, decided, sent; its response is read and released until its end; then the client
//! is listened to again. The client's read stays armed all the time, so that its death is seen while the database
//! works or people think. What bytes mean is not known here.

mod arrival;
mod attributes;
mod details;
mod hold;
mod idle;
mod kill;
mod login;
mod record;
mod ruling;
mod settings;
mod upstream;
mod waits;
mod write_back;

use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use aws_lc_rs::rand::SecureRandom as _;

use super::buffers::LARGE;
use super::compressed::Role;
use super::control::{Control, End};
use super::io::{self, Leg, Port};
use super::logins::Unproven;
use super::records::Records;
use super::registry::{self, Activity, SessionCell};
use super::target::TargetState;
use super::upstream::Upstream;
use super::worker::{Accepted, Worker};
use crate::clock::Now;
use crate::fault::{Fault, FaultKind};
use crate::run::Kept;
use crate::session::{Op, Session, Settings, Side, Step, challenge};
use record::Current;

/// Why a session can't go on.
#[derive(Debug)]
enum Stop {
    /// The client is gone, or broke TLS.
    ClientGone,
    /// The database is gone, or may not be heard any more; the client can still be told why.
    UpstreamLost(Fault),
    /// Ended from outside.
    Ended(End),
    /// `session` asked for the end.
    Closed(Option<FaultKind>),
}

/// One session on its worker.
struct Pump {
    worker: Rc<Worker>,
    control: Rc<Control>,
    cell: Arc<SessionCell>,
    target: Arc<TargetState>,
    target_index: usize,
    id: u64,
    /// None: it came by a Unix socket.
    address: Option<IpAddr>,
    session: Session,
    client: Leg,
    port: Box<dyn Port>,
    upstream: Option<Box<Upstream>>,
    /// What the session writes by itself.
    out: Vec<u8>,
    /// The clocks, read after each wait.
    now: Now,
    current: Current,
    /// A statement on this connection to the database has taken a lock.
    locked: bool,
    /// One has left what the next session could see.
    traces: bool,
    /// A command that is no statement has run on it: nobody knows what it left.
    tainted: bool,
    /// Labelled data was used: texts of errors and warnings at the database may quote it.
    quotable: bool,
    /// What this one could look for.
    past: idle::Past,
    /// A write to the client has not ended: it may have got a part of a packet.
    cut: bool,
    /// Until the first login.
    unproven: Option<Box<Unproven>>,
    /// A hash that was no token's, for which the secret itself was asked: whose login it was.
    asked_again: Option<Box<str>>,
    /// Its login was refused, and counted by the reason.
    denied: bool,
    recorded_open: bool,
    /// Refused commands recorded in the minute that began at this second of the worker's clock.
    refused: (u32, u8),
    /// What its login said of its run.
    said: Option<Box<Kept>>,
    /// What this session has set: part of what an approval is good for.
    sets: Option<Box<settings::Settings>>,
    /// Something was sent to the database and its answer has not ended: nobody else may have the connection.
    responding: bool,
}

/// Serves one connection to its end. What waits is small: how a session begins has a box of its own, which goes when it
/// has begun.
pub(super) fn serve(
    worker: Rc<Worker>,
    accepted: Accepted,
    control: Rc<Control>,
    cell: Arc<SessionCell>,
) -> Pin<Box<dyn Future<Output = ()>>> {
    let begun = Box::pin(begin(worker, accepted, control, cell));
    Box::pin(async move {
        let Some(mut pump) = begun.await else { return };
        let stop = pump.run().await;
        pump.finish(stop).await;
    })
}

/// `None`: it is gone already, or may not come, or there is no randomness, which is no state to log anyone in.
async fn begin(
    worker: Rc<Worker>,
    accepted: Accepted,
    control: Rc<Control>,
    cell: Arc<SessionCell>,
) -> Option<Box<Pump>> {
    let Accepted { stream, target: target_index, peer, id, unproven } = accepted;
    let target = worker.shared.targets.load().get(target_index).cloned()?;
    let (mut client, receiver) = io::adopt(stream).ok()?;
    let mut port = io::port(receiver);
    let arrived = arrival::arrive(&worker, &control, peer, unproven, &mut client, &mut *port);
    let (address, unproven) = arrived.await?;
    // As the databases call those of their own sockets.
    let source = address.map_or("localhost".into(), |address| address.to_string().into());
    cell.comes_from(Arc::clone(&source));
    let now = worker.now();
    let settings = settings(&worker, &target, target_index, id, (source, address.is_none()))?;
    Some(Box::new(Pump {
        session: Session::new(settings, now),
        worker,
        control,
        cell,
        target,
        target_index,
        id,
        address,
        client,
        port,
        upstream: None,
        out: Vec::new(),
        now,
        current: Current::default(),
        locked: false,
        traces: false,
        tainted: false,
        quotable: false,
        past: idle::Past::default(),
        cut: false,
        unproven: Some(Box::new(unproven)),
        asked_again: None,
        denied: false,
        recorded_open: false,
        refused: (0, 0),
        said: None,
        sets: None,
        responding: false,
    }))
}

/// What a session is told at its birth.
fn settings(
    worker: &Worker,
    target: &TargetState,
    target_index: usize,
    id: u64,
    (host, is_local): (Arc<str>, bool),
) -> Option<Settings> {
    let (seen, issuers) = worker.with_snapshot(|snapshot| {
        let catalog = snapshot.catalogs.get(target_index).and_then(Option::as_ref);
        let profile = catalog.map(|catalog| Arc::clone(&catalog.profile));
        (profile, snapshot.directory.has_issuers())
    });
    let limits = &worker.shared.limits;
    let [scramble, scramble_key] = random()?;
    Some(Settings {
        profile: seen.unwrap_or_else(|| Arc::clone(&target.runtime.profile)),
        connection_id: registry::connection_id(id),
        scramble: challenge(scramble),
        scramble_key,
        login_key: target.runtime.login_key.clone(),
        issuers,
        tls_available: target.client_tls.load().is_some(),
        tls_required: if is_local {
            target.runtime.socket_tls_required
        } else {
            target.runtime.client_tls_required
        },
        compression: worker.shared.limits.compression,
        is_local,
        host,
        max_statement_bytes: limits.max_statement_bytes,
        max_row_bytes: limits.max_row_bytes,
        room: worker.shared.rooms.get(worker.index).cloned()?,
        worker: worker.index,
    })
}

/// Two of them, since asking costs more than what is asked for.
fn random() -> Option<[[u8; 32]; 2]> {
    let mut both = [[0; 32]; 2];
    aws_lc_rs::rand::SystemRandom::new().fill(both.as_flattened_mut()).ok()?;
    Some(both)
}

impl Pump {
    /// Runs the session until it stops.
    async fn run(&mut self) -> Stop {
        let mut side = Side::Client;
        loop {
            let mut step = self.ask(side);
            let carried = loop {
                match self.carry_out(side, step).await {
                    // The database's end becomes an error packet, then the session closes by itself.
                    Err(Stop::UpstreamLost(fault)) => {
                        self.abandon_upstream();
                        self.out.clear();
                        side = Side::Client;
                        step = self.session.on_upstream_lost(&fault, &mut self.out);
                    }
                    carried => break carried,
                }
            };
            match carried {
                // Between statements it is the client's turn.
                Ok(_) if self.session.is_idle() => {
                    self.responding = false;
                    side = Side::Client;
                }
                Ok(next) => side = next,
                Err(stop) => return stop,
            }
        }
    }

    /// Asks the session about what `side` sent.
    fn ask(&mut self, side: Side) -> Step {
        if self.out.capacity() == 0 {
            self.out = self.worker.buffers.take(LARGE);
            if let Some(spare) = self.worker.spares.take() {
                self.session.lend(spare);
            }
        }
        let bytes = match (side, &mut self.upstream) {
            (Side::Client, _) => self.client.bytes(),
            (Side::Server, Some(upstream)) => upstream.leg.bytes(),
            (Side::Server, None) => &mut [],
        };
        self.session.on_bytes(side, bytes, &mut self.out, self.now)
    }

    /// Carries out one step; whose bytes come next. (A block in place of an `async fn`, here and where sessions wait:
    /// those keep their arguments twice.)
    fn carry_out(
        &mut self,
        side: Side,
        Step { consumed, op }: Step,
    ) -> impl Future<Output = Result<Side, Stop>> {
        if !matches!(op, Op::Forward | Op::Decide(_)) {
            self.consume(side, consumed);
        }
        async move {
            match op {
                Op::Read { side: from, at_least } => {
                    match from {
                        // What it sent while the database spoke, or behind a command without an answer, has not been
                        // looked at.
                        Side::Client
                            if (side == Side::Server || consumed > 0)
                                && self.client.len() >= at_least => {}
                        Side::Client => self.read_client(at_least).await?,
                        Side::Server => self.read_server(at_least).await?,
                    }
                    return Ok(from);
                }
                Op::Forward => self.forward(side, consumed).await?,
                Op::Emit(to) => self.emit(to).await?,
                Op::StartTls => self.start_tls()?,
                Op::Compress(by) => self.client.start_compression(by, Role::Server),
                // What happens once a session has a box of its own: idle sessions keep room for the rest only.
                Op::Authenticate(login) => Box::pin(self.authenticate(*login)).await?,
                Op::Decide(statement) => self.rule(&statement).await?,
                Op::Kill(kill) => Box::pin(self.kill(kill)).await?,
                Op::Check(statement) => Box::pin(self.check(&statement)).await?,
                Op::Connect => Box::pin(self.connect()).await?,
                Op::Release { schema } => self.release(schema.as_deref()),
                Op::Refused(command) => self.record_refused_command(command),
                Op::Done(outcome) => self.done(outcome).await?,
                Op::Close(kind) => return Err(Stop::Closed(kind)),
            }
            Ok(side)
        }
    }

    fn consume(&mut self, side: Side, n: usize) {
        match (side, &mut self.upstream) {
            (Side::Client, _) => self.client.consume(n),
            (Side::Server, Some(upstream)) => upstream.leg.consume(n),
            (Side::Server, None) => {}
        }
    }

    /// What follows the client's SSLRequest goes to rustls only.
    fn start_tls(&mut self) -> Result<(), Stop> {
        let config = self.target.client_tls.load_full();
        let config = config.ok_or(Stop::Closed(Some(FaultKind::Internal)))?;
        self.client
            .start_tls(|received| Records::server(config, received))
            .map_err(|_| Stop::ClientGone)
    }

    /// The end: the client is told where it can be, the database's connection is kept where it may be.
    async fn finish(&mut self, stop: Stop) {
        let reusable = !self.responding && self.session.upstream_is_reusable();
        self.never_proved(&stop);
        let reason = match &stop {
            Stop::Ended(end) => {
                if !self.cut {
                    Box::pin(self.say_goodbye(*end)).await;
                }
                match end {
                    End::Kill | End::Killed => "killed",
                    End::Revoked => "revoked",
                    End::Expired => "expired",
                    End::Withdrawn => "withdrawn",
                    End::Removed => "target removed",
                    End::LoginTimeout => "timeout",
                    End::IdleTimeout => "idle",
                    End::StatementTimeout => "statement timeout",
                    End::WriteTimeout => "write timeout",
                    End::Drain | End::Deadline => "drain",
                }
            }
            Stop::ClientGone => "lost",
            Stop::Closed(None) => "quit",
            Stop::Closed(Some(kind)) => kind.label(),
            Stop::UpstreamLost(fault) => fault.kind.label(),
        };
        if reusable {
            let schema = self.session.schema().map(str::to_owned);
            self.release(schema.as_deref());
        } else if matches!(stop, Stop::ClientGone) && self.may_finish() {
            self.leave_upstream();
        } else {
            self.abandon_upstream();
        }
        self.never_answered();
        self.closed(reason, matches!(stop, Stop::ClientGone));
    }

    async fn say_goodbye(&mut self, end: End) {
        let fault = match end {
            End::Drain | End::Deadline => Fault::shutdown(),
            End::Kill => Fault::killed(),
            End::Killed => kill::killed(),
            End::Revoked => Fault::revoked(),
            End::Expired | End::Withdrawn => Fault::login_ended(),
            End::Removed => Fault::target_removed(),
            End::LoginTimeout => Fault::login_timeout(),
            End::IdleTimeout => Fault::idle_timeout(),
            End::StatementTimeout => Fault::statement_timeout(),
            // It does not listen.
            End::WriteTimeout => return,
        };
        self.out.clear();
        let mut step = self.session.on_close(&fault, &mut self.out);
        // An error packet and the end: a few steps, however the session orders them.
        for _ in 0..4 {
            match step.op {
                Op::Emit(Side::Client) => {
                    if self.farewell().await.is_err() {
                        return;
                    }
                }
                Op::Done(outcome) => self.complete(&outcome),
                _ => return,
            }
            step = self.session.on_bytes(Side::Client, &mut [], &mut self.out, self.now);
        }
    }

    fn activity(&self, activity: Activity) {
        self.cell.set(activity);
    }
}
