//! Prepared statements between their commands: the parameters' types, kept for the EXECUTEs that bring none.

use std::borrow::Cow;
use std::sync::Arc;

use super::machine::{Phase, Prepared, broken};
use super::response::Expect;
use super::{Session, StatementKind, Step};
use crate::codec::{
    BulkExecute, Capabilities, ColumnType, Command, ExecuteHead, HEADER_LEN, Header,
    NamedParameters, bound_values, bulk_rows, bulk_values,
};
use crate::fault::{Fault, FaultKind};
use crate::policy::Values;

impl Session {
    pub(super) fn execute(&mut self, total: usize, body: &[u8], out: &mut Vec<u8>) -> Step {
        match ExecuteHead::parse(body) {
            Ok(head) => match self.check_execute(&head) {
                Ok(()) => self.prepared(StatementKind::Execute, head.statement_id, total, out),
                Err(fault) => self.refuse(&fault, total, out),
            },
            Err(_) => self.fail(&broken("malformed COM_STMT_EXECUTE"), 1, out),
        }
    }

    /// Whether the client may execute a statement for many rows of parameters at once. (Every connection to a MariaDB may.)
    pub(super) fn takes_bulk(&self) -> bool {
        self.capabilities.has(Capabilities::MARIADB_STMT_BULK_OPERATIONS)
    }

    pub(super) fn bulk_execute(&mut self, total: usize, body: &[u8], out: &mut Vec<u8>) -> Step {
        let Ok(bulk) = BulkExecute::parse(body) else {
            return self.refuse(&malformed_bulk(), total, out);
        };
        let known = self.statements.get(&bulk.statement_id);
        let is_whole = known.is_none_or(|known| {
            let rows = bulk.rows(known.parameters.into());
            let counted = rows.map(|(types, rows)| bulk_rows(types, rows));
            // Without types it is the database that knows; long data has no place here.
            known.parameters > 0
                && known.long_data == 0
                && counted.map_or(!bulk.has_types, |rows| rows.is_ok_and(|rows| rows > 0))
        });
        if !is_whole {
            return self.refuse(&malformed_bulk(), total, out);
        }
        self.prepared(StatementKind::BulkExecute, bulk.statement_id, total, out)
    }

    /// The parameters of the EXECUTE that waits for its ruling, at the front of the client's bytes, with the types of an
    /// earlier one where it brings none. `None` where they are not all known: long data was sent before, so that one
    /// could stand for another.
    pub fn bound_parameters<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let none = Some(Cow::Borrowed(&[][..]));
        let Phase::Deciding(pending) = &self.phase else { return none };
        if !matches!(pending.kind, StatementKind::Execute | StatementKind::BulkExecute) {
            return none;
        }
        let statement = self.statements.get(&pending.statement_id)?;
        if statement.parameters == 0 {
            return none;
        }
        if Header::parse(bytes)?.continues() || statement.long_data > 0 {
            return None; // not in one piece
        }
        let body = bytes.get(HEADER_LEN + 1..pending.total)?;
        if pending.kind == StatementKind::BulkExecute {
            let bulk = BulkExecute::parse(body).ok()?;
            return bulk.has_types.then_some(Cow::Borrowed(bulk.parameters));
        }
        let head = ExecuteHead::parse(body).ok()?;
        if self.takes_attributes() {
            let (own, mut out) = (statement.parameters, Vec::with_capacity(head.parameters.len()));
            let named = self.named_parameters(&head, own)?;
            named.write_own(own.into(), statement.types.as_deref(), &mut out)?;
            return Some(Cow::Owned(out));
        }
        match statement.bound(head.parameters)? {
            (_, Some(_), _) => Some(Cow::Borrowed(head.parameters)),
            (nulls, None, values) => {
                let types = statement.types.as_deref()?;
                Some(Cow::Owned([nulls, &[1], types, values].concat()))
            }
        }
    }

    /// The strings among the parameters of the statement that waits for its ruling, and whether one is NULL; `bytes` are the
    /// client's. `None`: not all of them are known.
    pub fn bound_values(&self, bytes: &[u8]) -> Option<Values> {
        let mut values = Values::default();
        let bound = self.bound_parameters(bytes)?;
        let Phase::Deciding(pending) = &self.phase else { return Some(values) };
        let of = self.statements.get(&pending.statement_id).filter(|_| !bound.is_empty());
        let Some(statement) = of else { return Some(values) };
        let own = usize::from(statement.parameters);
        let mut each = |column_type: ColumnType, value: Option<&[u8]>| match value {
            None => values.null = true,
            Some(value) if column_type.is_string() => values.strings.push(value.to_vec()),
            Some(_) => {}
        };
        match pending.kind {
            StatementKind::BulkExecute => {
                let (types, rows) = bound.split_at_checked(2 * own)?;
                bulk_values(types, rows, each).ok()?;
            }
            _ => bound_values(&bound, own, &mut each).ok()?,
        }
        Some(values)
    }

    /// Keeps a statement that the database has prepared.
    pub(super) fn keep_statement(&mut self, id: u32, text: Arc<[u8]>, parameters: u16) {
        let (schema, sql_mode) = (self.schema.clone(), self.sql_mode);
        let statement = Prepared {
            text,
            schema,
            sql_mode,
            parameters,
            types: None,
            long_data: 0,
            definitions: None,
            cursor: None,
            cursor_open: false,
            said: None,
        };
        self.statements.insert(id, statement);
        self.last_prepared = Some(id);
    }

    /// What an EXECUTE or FETCH on its way leaves behind.
    pub(super) fn executing(&mut self, expect: &Expect, bytes: &[u8]) {
        let named = self.takes_attributes();
        let said = self.said_for_cursor(expect, bytes);
        let known = match expect {
            Expect::Execute { id } | Expect::Fetch { id } => self.statements.get_mut(id),
            _ => None,
        };
        if let Some(statement) = known {
            if statement.parameters > 0 && matches!(expect, Expect::Execute { .. }) {
                if bytes.get(HEADER_LEN) == Some(&Command::MARIADB_STMT_BULK_EXECUTE.0) {
                    // An EXECUTE that brings none must not be taken to have its, or those from before it.
                    statement.types = None;
                } else {
                    statement.keep_types(bytes, named);
                }
            }
            statement.long_data = 0;
            if let Expect::Execute { .. } = expect {
                statement.said = said;
            }
        }
    }
}

/// NULL bitmap, types where they are given, values.
type Bound<'a> = (&'a [u8], Option<&'a [u8]>, &'a [u8]);

impl Prepared {
    /// An EXECUTE's parameters: which are NULL, the types if it brings them, the values.
    fn bound<'a>(&self, parameters: &'a [u8]) -> Option<Bound<'a>> {
        let count = usize::from(self.parameters);
        let (nulls, rest) = parameters.split_at_checked(count.div_ceil(8))?;
        match rest.split_first()? {
            (0, values) => Some((nulls, None, values)),
            (1, rest) => {
                let (types, values) = rest.split_at_checked(2 * count)?;
                Some((nulls, Some(types), values))
            }
            _ => None,
        }
    }

    /// Remembers the types that an EXECUTE on its way brings, by names (of attributes, or empty) or without.
    fn keep_types(&mut self, bytes: &[u8], named: bool) {
        let Ok(head) = ExecuteHead::parse(bytes.get(HEADER_LEN + 1..).unwrap_or_default()) else {
            return;
        };
        if named {
            if Header::parse(bytes).is_some_and(Header::continues) {
                // Names make them so long that they may not be in one piece.
                self.types = None;
            } else {
                self.keep_named_types(head.parameters);
            }
            return;
        }
        let Some((_, Some(types), _)) = self.bound(head.parameters) else { return };
        if self.types.as_deref() != Some(types) {
            self.types = Some(types.into());
        }
    }

    fn keep_named_types(&mut self, parameters: &[u8]) {
        let own = usize::from(self.parameters);
        let named = NamedParameters::parse(parameters, own);
        let types = || named.ok().and_then(|named| named.types(own));
        let Some(now) = types() else { return };
        let kept = self.types.as_deref().unwrap_or_default();
        if !now.eq(kept.chunks_exact(2).map(|wire| [wire[0], wire[1]])) {
            self.types = types().map(|now| now.flatten().collect());
        }
    }
}

fn malformed_bulk() -> Fault {
    let text = "Rowgate [RG-UNSUPPORTED]: a malformed COM_STMT_BULK_EXECUTE, or one that asks for a result for each row";
    Fault::new(FaultKind::Unsupported, 1235, *b"42000", text)
}
