//! KILL and COM_PROCESS_KILL: carried out by the driver, which knows whose connections they are, and answered here.

use super::machine::{Pending, Phase, refused};
use super::{Op, Outcome, Session, Side, StatementKind, Step, Text};
use crate::codec::Status;
use crate::fault::{Fault, FaultKind};
use crate::sql;

impl Session {
    /// COM_PROCESS_KILL, ruled on as the statement that it is.
    pub(super) fn process_kill(&mut self, total: usize, body: &[u8], out: &mut Vec<u8>) -> Step {
        let Some(id) = body.get(..4).and_then(|id| id.try_into().ok()).map(u32::from_le_bytes)
        else {
            return self.refuse(&super::machine::broken("malformed COM_PROCESS_KILL"), total, out);
        };
        let text: std::sync::Arc<[u8]> = format!("KILL {id}").into_bytes().into();
        let kind = StatementKind::Query;
        let kept = Text::Kept(std::sync::Arc::clone(&text));
        self.decide(Pending::new(kind, total, Some(text)), kept)
    }

    /// Whether the statement that may run is a KILL: then it is carried out, and nothing is sent.
    pub(super) fn kill(
        &mut self,
        pending: &Pending,
        text: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Step> {
        if !matches!(pending.kind, StatementKind::Query | StatementKind::Prepare) {
            return None;
        }
        let kill = sql::kill(text, &self.settings.profile, self.sql_mode)?;
        let consumed = pending.total;
        match kill {
            Ok(kill) if pending.kind == StatementKind::Query => {
                self.phase = Phase::Killing(None);
                Some(Step { consumed, op: Op::Kill(kill) })
            }
            _ => {
                let fault = Fault::unsupported(
                    "KILL of anything but one connection, by its number, unprepared,",
                );
                self.queue.push_back(Op::Done(refused(&fault)));
                Some(self.refuse(&fault, consumed, out))
            }
        }
    }

    /// The answer to [`Op::Kill`].
    pub fn on_killed(&mut self, answer: Result<(), Fault>) {
        if let Phase::Killing(slot) = &mut self.phase {
            *slot = Some(answer);
        }
    }

    pub(super) fn killed(&mut self, answer: Option<Result<(), Fault>>, out: &mut Vec<u8>) -> Step {
        match answer {
            Some(Ok(())) => {
                let more = self.batch.as_ref().is_some_and(|batch| batch.goes_on());
                self.emit_status(if more { Status::MORE_RESULTS } else { 0 }, self.reply_seq, out);
                self.reply_seq = self.reply_seq.wrapping_add(1);
                self.phase = if more { Phase::Between } else { Phase::Idle };
                if !more {
                    self.batch = None;
                }
                self.queue.push_back(Op::Done(Outcome::default()));
                Step { consumed: 0, op: Op::Emit(Side::Client) }
            }
            Some(Err(fault)) => {
                self.queue.push_back(Op::Done(refused(&fault)));
                self.refuse(&fault, 0, out)
            }
            None => self.fail(&Fault::internal(), self.reply_seq, out),
        }
    }
}

/// 1094: there is no such connection, or it is another identity's: nobody is told which.
pub fn unknown_connection(id: u64) -> Fault {
    Fault::new(FaultKind::Protocol, 1094, *b"HY000", format!("Unknown thread id: {id}"))
}
