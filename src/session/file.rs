//! LOAD DATA LOCAL INFILE: the database asks for a file, the client sends it, piece by piece, until an empty packet.
//! Which file may be asked for is what the statement names and nothing else: a database that asks for another is not
//! listened to any more.

use super::machine::{Pending, upstream_broken, wait};
use super::response::{At, Packet, Response};
use super::{Op, Session, Side, StatementKind, Step};
use crate::codec::{Capabilities, HEADER_LEN, Header};
use crate::fault::{Fault, FaultKind};
use crate::sql;

impl Session {
    /// The file of the client's that a statement about to be sent loads. Refused where the client has not agreed to
    /// send any.
    pub(super) fn local_file(
        &self,
        pending: &Pending,
        text: &[u8],
    ) -> Result<Option<Box<[u8]>>, Fault> {
        if pending.kind != StatementKind::Query {
            return Ok(None);
        }
        let file = sql::local_file(text, &self.settings.profile, self.sql_mode);
        if file.is_some() && !self.capabilities.has(Capabilities::LOCAL_FILES) {
            let text =
                "Rowgate [RG-UNSUPPORTED]: the client did not say at its login that it sends files";
            return Err(Fault::new(FaultKind::Unsupported, 1148, *b"42000", text));
        }
        Ok(file.map(Vec::into_boxed_slice))
    }
}

impl Response {
    /// The database asks for a file.
    pub(super) fn asked_for(&mut self, name: &[u8]) -> Result<Packet, Fault> {
        match self.local_file.take() {
            Some(file) if *file == *name => {
                self.at = At::LocalFile;
                Ok(Packet::Pass)
            }
            _ => Err(upstream_broken("a request for a file that the statement does not name")),
        }
    }

    /// Bytes of the file: they pass as they come.
    pub(super) fn file(&mut self, bytes: &mut [u8]) -> Step {
        let mut pos = 0;
        loop {
            let passing = self.skip.min(bytes.len() - pos);
            self.skip -= passing;
            pos += passing;
            let rest = bytes.get_mut(pos..).unwrap_or_default();
            let Some(header) = Header::parse(rest).filter(|_| self.skip == 0) else { break };
            if let Some(seq) = rest.get_mut(HEADER_LEN - 1) {
                *seq = header.seq.wrapping_sub(self.part.shift);
            }
            self.seq = header.seq.wrapping_add(1);
            // An empty packet behind a full one is its end, not the file's.
            let ends = header.len == 0 && !self.continues;
            self.continues = header.continues();
            self.skip = header.total();
            self.outcome.bytes += header.len as u64;
            if ends {
                self.skip = 0;
                self.at = At::First;
                return Step { consumed: pos + HEADER_LEN, op: Op::Forward };
            }
        }
        if pos == 0 {
            return wait(Side::Client, if self.skip > 0 { 1 } else { HEADER_LEN });
        }
        Step { consumed: pos, op: Op::Forward }
    }
}
