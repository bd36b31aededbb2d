//! A command that is not collected: longer than one may be, or more than there is room for. It is heard to its end and
//! nothing of it is kept, so that its client, which may read no answer before it has sent all, gets one, and the session
//! goes on.

use super::machine::{Phase, broken, wait};
use super::{Op, Session, Side, Step};
use crate::codec::{Command, HEADER_LEN, Header};
use crate::fault::{Fault, FaultKind};

/// How much is listened to at the most: the most that a server's `max_allowed_packet` can allow. Beyond it a client would
/// not stop.
const MAX_HEARD: usize = 1 << 30;

/// So much of it is read at once.
const PIECE: usize = 64 << 10;

/// A command that goes by.
pub(super) struct Overlong {
    /// What its client will be told.
    fault: Fault,
    command: Command,
    /// Bytes of the packet in passing that are still to come.
    skip: usize,
    /// It goes on in the next.
    continues: bool,
    /// The next packet's number.
    seq: u8,
    heard: usize,
}

impl Session {
    /// Lets the command go by whose first packet begins `bytes`, and answers with this.
    pub(super) fn let_go_by(&mut self, fault: Fault, bytes: &[u8], out: &mut Vec<u8>) -> Step {
        let Some(&[command, ref id @ ..]) = bytes.get(HEADER_LEN..HEADER_LEN + 5) else {
            return wait(Side::Client, HEADER_LEN + 5);
        };
        let command = Command(command);
        match command {
            // It is not answered, and what it was a part of must not be executed without it.
            Command::STMT_SEND_LONG_DATA => self.lacks_long_data(id),
            Command::STMT_CLOSE | Command::QUIT => return self.fail(&fault, 1, out),
            _ => {}
        }
        self.collected = None;
        let overlong = Overlong { fault, command, skip: 0, continues: true, seq: 0, heard: 0 };
        self.goes_by(Box::new(overlong), bytes, out)
    }

    /// More of it.
    pub(super) fn goes_by(
        &mut self,
        mut overlong: Box<Overlong>,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Step {
        let mut pos = 0;
        let at_least = loop {
            let passing = overlong.skip.min(bytes.len() - pos);
            overlong.skip -= passing;
            pos += passing;
            if overlong.skip > 0 {
                break overlong.skip.min(PIECE);
            }
            self.reply_seq = overlong.seq;
            if !overlong.continues {
                return self.has_gone_by(&overlong, pos, out);
            }
            let Some(header) = bytes.get(pos..).and_then(Header::parse) else { break HEADER_LEN };
            if header.seq != overlong.seq {
                return self.fail(&broken("packets out of order"), header.seq.wrapping_add(1), out);
            }
            overlong.seq = header.seq.wrapping_add(1);
            overlong.continues = header.continues();
            overlong.skip = header.total();
            overlong.heard += header.total();
            if overlong.heard > MAX_HEARD {
                return self.fail(&overlong.fault, overlong.seq, out);
            }
        };
        self.phase = Phase::Overlong(overlong);
        Step { consumed: pos, op: Op::Read { side: Side::Client, at_least } }
    }

    fn has_gone_by(&mut self, overlong: &Overlong, pos: usize, out: &mut Vec<u8>) -> Step {
        match overlong.command {
            Command::STMT_PREPARE => self.last_prepared = None,
            Command::STMT_SEND_LONG_DATA => {
                self.phase = Phase::Idle;
                return Step { consumed: pos, op: Op::Emit(Side::Client) };
            }
            _ => {}
        }
        let Step { consumed, op } = self.refuse(&overlong.fault, pos, out);
        self.queue.push_back(op);
        Step { consumed, op: Op::Refused(overlong.command) }
    }
}

impl Session {
    /// The statement lacks a part of its long data: it can't be executed until it is reset, here and at the database.
    pub(super) fn lacks_long_data(&mut self, id: &[u8]) {
        let id = id.try_into().map(u32::from_le_bytes).ok();
        let id = id.map(|id| self.last_or(id));
        if let Some(statement) = id.and_then(|id| self.statements.get_mut(&id)) {
            statement.long_data = usize::MAX;
        }
    }

    /// Why a statement can't be executed.
    pub(super) fn lacks_data(&self, id: u32) -> Option<Fault> {
        let statement = self.statements.get(&id)?;
        (statement.long_data > self.settings.max_statement_bytes).then(too_long)
    }
}

/// As the servers number it.
pub(super) fn too_long() -> Fault {
    let text = "Rowgate [RG-LIMIT]: the packet is longer than server.max_statement_bytes";
    Fault::new(FaultKind::Limit, 1153, *b"08S01", text)
}
