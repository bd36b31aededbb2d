//! The definitions of a prepared statement's result, kept where the database may leave them out of what an EXECUTE is
//! answered with (MariaDB's metadata caching): by them rows are masked that come with none. Whoever has other ones by
//! today's plan is sent them.

use std::sync::Arc;

use super::binding::Binding;
use super::machine::{Pending, upstream_broken};
use super::response::{At, Expect, MAX_HELD, Packet, Response};
use super::{Ruling, Session, StatementKind};
use crate::codec::{
    Capabilities, ColumnDefinition, HEADER_LEN, Header, write_columns, write_frame,
};
use crate::fault::{Fault, FaultKind};

/// What a statement's columns are.
#[derive(Clone, Debug)]
pub(super) struct Definitions {
    /// As the database sent them last: packets with their headers. Empty where it has sent none.
    frames: Arc<[u8]>,
    /// What the client was sent last is bound so; `None`: it has them as they came.
    sent: Option<Arc<Binding>>,
}

/// The definitions that a response brings.
#[derive(Debug, Default)]
pub(super) enum Collected {
    /// None are kept: they come with every result, or they are too long.
    #[default]
    No,
    /// Those up to here.
    Yes(Vec<u8>),
}

impl Definitions {
    /// How many bytes they take.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.frames[..];
        std::iter::from_fn(move || {
            let header = Header::parse(rest)?;
            let (frame, after) = rest.split_at_checked(header.total())?;
            rest = after;
            frame.get(HEADER_LEN..)
        })
    }
}

impl Session {
    /// What the client's login agreed on: by it answers are read.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Whether what this EXECUTE is answered with could not be masked: the database may leave the definitions out, and
    /// they were too long to be kept.
    pub(super) fn lacks_definitions(&self, pending: &Pending, ruling: &Ruling) -> Option<Fault> {
        let masks = matches!(ruling, Ruling::Run { mask: Some(_), .. });
        let may_lack = self.capabilities.has(Capabilities::MARIADB_CACHE_METADATA);
        if pending.kind != StatementKind::Execute || !masks || !may_lack {
            return None;
        }
        let statement = self.statements.get(&pending.statement_id);
        let known = statement.is_some_and(|kept| kept.definitions.is_some());
        (!known).then(too_long_to_keep)
    }

    /// Keeps what a response brought of its statement's definitions, as far as there is room: all together take no more
    /// bytes than one longest statement.
    pub(super) fn keep_definitions(&mut self, id: u32, definitions: Option<Definitions>) {
        let Some(statement) = self.statements.get_mut(&id) else { return };
        let frames =
            |known: &Option<Definitions>| known.as_ref().map(|known| known.frames.as_ptr());
        if definitions.is_none() || frames(&definitions) == frames(&statement.definitions) {
            statement.definitions = definitions;
            return;
        }
        let of_others = self.statements.iter().filter(|(other, _)| **other != id);
        let lens =
            of_others.filter_map(|(_, kept)| kept.definitions.as_ref().map(Definitions::len));
        let free = self.settings.max_statement_bytes.saturating_sub(lens.sum());
        if let Some(statement) = self.statements.get_mut(&id) {
            statement.definitions = definitions.filter(|definitions| definitions.len() <= free);
        }
    }
}

impl Response {
    /// Whether the definitions that this response brings are to be kept.
    pub(super) fn keeps_definitions(expect: &Expect, capabilities: Capabilities) -> bool {
        capabilities.has(Capabilities::MARIADB_CACHE_METADATA)
            && matches!(expect, Expect::Prepare { .. } | Expect::Execute { .. })
    }

    /// Definitions are about to come: those that were kept hold no more.
    pub(super) fn collect(&mut self) {
        self.definitions = None;
        if Self::keeps_definitions(&self.expect, self.capabilities) {
            self.collected = Collected::Yes(Vec::new());
        }
    }

    /// Adds the next one.
    pub(super) fn collect_one(&mut self, payload: &[u8]) {
        let Collected::Yes(frames) = &mut self.collected else { return };
        write_frame(frames, 0, |out| out.extend_from_slice(payload));
        if frames.len() > MAX_HELD {
            self.collected = Collected::No;
        }
    }

    /// All were seen: they are what the client knows, bound or as they came.
    pub(super) fn collected(&mut self) {
        if let Collected::Yes(frames) = std::mem::take(&mut self.collected) {
            self.definitions = Some(Definitions { frames: frames.into(), sent: None });
        }
    }

    /// The client is sent what is held, which is bound so.
    pub(super) fn sent(&mut self, binding: &Arc<Binding>) {
        if let Some(definitions) = &mut self.definitions {
            definitions.sent = Some(Arc::clone(binding));
        }
    }

    /// A result whose definitions the database leaves out: the client has those of the PREPARE, or of an EXECUTE since.
    /// Where by today's plan they are other ones, it is sent them, before rows are masked by it.
    pub(super) fn undefined(
        &mut self,
        header: Header,
        payload: &[u8],
        columns: u64,
        out: &mut Vec<u8>,
    ) -> Result<Packet, Fault> {
        self.at = if self.deprecate_eof { At::Rows } else { At::DefinitionsEof };
        let known = self.definitions.take();
        let known = known.filter(|known| known.payloads().count() as u64 == columns);
        let Some(mut known) = known else {
            // Nothing that masks could be bound to.
            return if self.binding.is_none() { Ok(Packet::Pass) } else { Err(undefined()) };
        };
        let sent = known.sent.as_ref().map(|sent| &sent.plan);
        let is_sent = sent == self.binding.as_ref().map(|binding| &binding.plan);
        if is_sent {
            self.binding.clone_from(&known.sent);
            self.definitions = Some(known);
            return Ok(self.pass_or_hold(header, payload));
        }
        let frames = self.send_again(header, &known, out)?;
        known.sent = None;
        self.definitions = Some(known);
        self.part.shift = self.part.shift.wrapping_add(frames);
        self.seq = self.seq.wrapping_add(frames);
        Ok(Packet::Taken)
    }

    /// Writes the definitions as they are by today's plan, behind a count of the columns which says that they follow;
    /// what a mask is bound to is held until the masks are open. Gives how many there are, as sequence ids count.
    fn send_again(
        &mut self,
        header: Header,
        known: &Definitions,
        out: &mut Vec<u8>,
    ) -> Result<u8, Fault> {
        let mut seq = header.seq;
        let count = known.payloads().count();
        let held = if self.binding.is_some() { &mut self.held } else { out };
        let capabilities = self.capabilities;
        write_frame(held, seq, |out| write_columns(out, count as u64, capabilities));
        for payload in known.payloads() {
            seq = seq.wrapping_add(1);
            let Some(binding) = &mut self.binding else {
                write_frame(held, seq, |out| out.extend_from_slice(payload));
                continue;
            };
            let binding = Arc::get_mut(binding).ok_or_else(Fault::internal)?;
            let definition = ColumnDefinition::parse(payload, capabilities)
                .map_err(|_| upstream_broken("a column definition"))?;
            let mut result = Ok(());
            write_frame(held, seq, |out| result = binding.define(&definition, out));
            result?;
        }
        if let Some(binding) = &self.binding {
            binding.check_count(binding.types.len())?;
        }
        Ok(seq.wrapping_sub(header.seq))
    }
}

/// Masks are bound to definitions, and there are none.
pub(super) fn undefined() -> Fault {
    Fault::analysis(
        "the result comes without the definitions that its masks are bound to; nothing was released",
    )
}

fn too_long_to_keep() -> Fault {
    let text = "Rowgate [RG-LIMIT]: the columns of this session's prepared statements take too much room; close some, and prepare this one again";
    Fault::new(FaultKind::Limit, 1461, *b"42000", text)
}
