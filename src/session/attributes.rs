//! Query attributes: told apart from a statement's text and from its parameters, and passed on as they came. A connection
//! to the database has the capability if the client's has it, so that nothing is rewritten on the way.

use super::machine::Phase;
use super::response::Expect;
use super::{Session, StatementKind};
use crate::codec::{
    Attributes, Capabilities, Command, ExecuteHead, HEADER_LEN, Header, MAX_PAYLOAD,
    NamedParameters,
};
use crate::fault::{Fault, FaultKind};
use crate::run::{Kept, Run, kept};

/// COM_STMT_EXECUTE's flags that open a cursor.
const CURSORS: u8 = 7;

/// COM_STMT_EXECUTE's flag by which a client says how many values it sends.
const PARAMETER_COUNT_AVAILABLE: u8 = 8;

impl Session {
    /// Whether the client's commands may bring attributes.
    pub(super) fn takes_attributes(&self) -> bool {
        self.capabilities.has(Capabilities::QUERY_ATTRIBUTES)
    }

    /// How many bytes of attributes stand in front of a COM_QUERY's text.
    pub(super) fn prefix_len(&self, body: &[u8]) -> Result<usize, Fault> {
        if !self.takes_attributes() {
            return Ok(0);
        }
        Attributes::of_query(body).map(|(_, len)| len).map_err(|_| malformed())
    }

    /// Whether an EXECUTE's own parameters can be told from its attributes.
    pub(super) fn check_execute(&self, head: &ExecuteHead<'_>) -> Result<(), Fault> {
        if let Some(fault) = self.lacks_data(head.statement_id) {
            return Err(fault);
        }
        let own = self.statements.get(&head.statement_id).map_or(0, |known| known.parameters);
        if self.brings_names(head, own) {
            NamedParameters::parse(head.parameters, own.into()).map_err(|_| malformed())?;
        }
        Ok(())
    }

    /// The parameters of an EXECUTE, the attributes among them, from a client that may send such.
    pub(super) fn named_parameters<'a>(
        &self,
        head: &ExecuteHead<'a>,
        own: u16,
    ) -> Option<NamedParameters<'a>> {
        let named = self.brings_names(head, own);
        NamedParameters::parse(head.parameters, own.into()).ok().filter(|_| named)
    }

    /// Whether the parameters begin with their number and have names. (Those of a statement that has some of its own
    /// always do, whatever the flag says.)
    fn brings_names(&self, head: &ExecuteHead<'_>, own: u16) -> bool {
        self.takes_attributes() && (own > 0 || head.flags & PARAMETER_COUNT_AVAILABLE != 0)
    }

    /// The attributes of the statement that waits for its ruling; `bytes` are the client's. Of an EXECUTE in more than one
    /// packet, or with long data, only how many they are may be known.
    pub fn attributes<'a>(&'a self, bytes: &'a [u8]) -> Attributes<'a> {
        if !self.takes_attributes() {
            return Attributes::default();
        }
        let of_query = |body: &'a [u8]| Attributes::of_query(body).map(|(found, _)| found).ok();
        let found = match (&self.batch, &self.phase) {
            (Some(batch), _) => of_query(batch.prefix()),
            (None, Phase::Deciding(pending)) => match pending.kind {
                StatementKind::Query => of_query(prefix_of(bytes, pending.prefix)),
                StatementKind::Execute => self.of_execute(bytes, pending.statement_id),
                _ => None,
            },
            _ => None,
        };
        found.unwrap_or_default()
    }

    /// What they say of the statement's run. The rows of a cursor are of the run that opened it.
    pub fn said<'a>(&'a self, bytes: &'a [u8]) -> Run<'a> {
        match &self.phase {
            Phase::Deciding(pending) if pending.kind == StatementKind::Fetch => {
                let opened_by = self.statements.get(&pending.statement_id);
                kept(opened_by.and_then(|statement| statement.said.as_deref()))
            }
            _ => said(self.attributes(bytes)),
        }
    }

    /// What an EXECUTE on its way says, if it may open a cursor.
    pub(super) fn said_for_cursor(&self, expect: &Expect, bytes: &[u8]) -> Option<Box<Kept>> {
        let Expect::Execute { id } = expect else { return None };
        let [command, body @ ..] = bytes.get(HEADER_LEN..)? else { return None };
        let head = ExecuteHead::parse(body).ok()?;
        let opens = *command == Command::STMT_EXECUTE.0 && head.flags & CURSORS != 0;
        if !(opens && self.takes_attributes()) {
            return None;
        }
        said(self.of_execute(bytes, *id)?).keep()
    }

    fn of_execute<'a>(&self, bytes: &'a [u8], id: u32) -> Option<Attributes<'a>> {
        let header = Header::parse(bytes)?;
        let payload = bytes.get(HEADER_LEN..HEADER_LEN + header.len)?;
        let head = ExecuteHead::parse(payload.get(1..)?).ok()?;
        let statement = self.statements.get(&id)?;
        let own = statement.parameters;
        let named = self.named_parameters(&head, own)?;
        let whole = statement.long_data == 0 && payload.len() < MAX_PAYLOAD;
        Some(if whole { named.attributes(own.into()) } else { named.unread(own.into()) })
    }
}

fn said(attributes: Attributes<'_>) -> Run<'_> {
    let mut run = Run::default();
    for attribute in attributes.filter(|attribute| attribute.column_type.is_string()) {
        if let Some(value) = attribute.value.and_then(|value| std::str::from_utf8(value).ok()) {
            run.say(attribute.name, value);
        }
    }
    run
}

/// A COM_QUERY's attributes: they are shorter than its first packet may be.
fn prefix_of(bytes: &[u8], len: usize) -> &[u8] {
    bytes.get(HEADER_LEN + 1..HEADER_LEN + 1 + len).unwrap_or_default()
}

fn malformed() -> Fault {
    let text = "Rowgate [RG-ATTRIBUTES]: malformed query attributes, or more than 64 of them, or more than 64 KiB";
    Fault::new(FaultKind::Protocol, 1835, *b"HY000", text)
}
