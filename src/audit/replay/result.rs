//! A recorded answer read back: packets of the protocol, as the client got them, into results with names and cells as
//! text. Only what is there is told: of an answer that was cut, the rows that are whole.
//!
//! Nothing is trusted to be well-formed: what can't be read ends the reading, and says so.

use super::cell;
use crate::codec::{
    BinaryRow, Capabilities, ColumnDefinition, ColumnFlags, ColumnType, ErrPacket, HEADER_LEN,
    Header, MAX_PAYLOAD, OkPacket, Reply, Status, TextRow,
};

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Column {
    /// Its name in the result.
    pub name: String,
    /// Where it comes from, as `schema.table.column`; empty where it is computed.
    pub from: String,
    #[serde(skip)]
    pub(super) kind: ColumnType,
    #[serde(skip)]
    pub(super) flags: ColumnFlags,
    #[serde(skip)]
    pub(super) charset: u16,
}

impl Column {
    /// A column of text of this name.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            from: String::new(),
            kind: ColumnType::VAR_STRING,
            flags: ColumnFlags(0),
            charset: 45,
        }
    }
}

/// One of the results of an answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Rows, as the client saw them; NULL is `None`.
    Rows {
        /// The columns.
        columns: Vec<Column>,
        /// The rows that are recorded whole.
        rows: Vec<Vec<Option<String>>>,
    },
    /// No rows.
    Ok {
        /// Rows that it changed.
        affected: u64,
        /// Warnings that the database told of.
        warnings: u16,
    },
    /// An error.
    Error {
        /// Its number.
        code: u16,
        /// Its SQLSTATE.
        state: String,
        /// Its text.
        message: String,
    },
    /// The database asked for a file of the client's.
    File,
}

/// How an answer is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading<'a> {
    pub(super) capabilities: Capabilities,
    /// The rows are of the binary protocol.
    pub(super) binary: bool,
    /// It has rows only, those of a cursor.
    pub(super) fetched: bool,
    /// The columns, where the answer itself has none.
    pub(super) known: &'a [Column],
}

/// What was read of an answer.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) answers: Vec<Answer>,
    /// It ends early, or can't be read to its end.
    pub(super) cut: bool,
}

/// Reads an answer as far as it goes.
pub(super) fn read(bytes: &[u8], reading: Reading<'_>) -> Read {
    let mut reader = Reader { reading, answers: Vec::new(), at: At::Start };
    if reading.fetched {
        reader.begin(reading.known.to_vec());
    }
    let mut rest = bytes;
    while let Some(header) = Header::parse(rest) {
        let Some((frame, after)) = rest.split_at_checked(header.total()) else { break };
        let payload = frame.get(HEADER_LEN..).unwrap_or_default();
        // One that goes on in the next packet is longer than all that is recorded.
        if payload.len() >= MAX_PAYLOAD || reader.packet(payload).is_none() {
            break;
        }
        rest = after;
    }
    let ended = matches!(reader.at, At::End) && rest.is_empty();
    Read { answers: reader.answers, cut: !ended }
}

/// What comes next.
enum At {
    Start,
    Definitions {
        left: u64,
        columns: Vec<Column>,
    },
    /// The EOF between definitions and rows.
    Between {
        columns: Vec<Column>,
    },
    Rows,
    End,
}

struct Reader<'a> {
    reading: Reading<'a>,
    answers: Vec<Answer>,
    at: At,
}

impl Reader<'_> {
    /// `None`: it can't be read.
    fn packet(&mut self, payload: &[u8]) -> Option<()> {
        match std::mem::replace(&mut self.at, At::End) {
            At::Start => self.start(payload),
            At::Definitions { left, mut columns } => {
                columns.push(column(payload, self.reading.capabilities)?);
                self.at = match left {
                    2.. => At::Definitions { left: left - 1, columns },
                    _ if self.has_eofs() => At::Between { columns },
                    _ => {
                        self.begin(columns);
                        return Some(());
                    }
                };
                Some(())
            }
            At::Between { columns } => {
                let status = Reply::terminator_status(payload, false).ok()?;
                self.begin(columns);
                // The rows of a cursor are fetched later.
                if status.has(Status::CURSOR_EXISTS) {
                    self.at = At::End;
                }
                Some(())
            }
            At::Rows => self.row(payload),
            At::End => None,
        }
    }

    fn has_eofs(&self) -> bool {
        !self.reading.capabilities.has(Capabilities::DEPRECATE_EOF)
    }

    fn begin(&mut self, columns: Vec<Column>) {
        self.answers.push(Answer::Rows { columns, rows: Vec::new() });
        self.at = At::Rows;
    }

    fn start(&mut self, payload: &[u8]) -> Option<()> {
        match Reply::parse(payload, self.reading.capabilities).ok()? {
            Reply::Ok => {
                let ok = OkPacket::parse(payload).ok()?;
                let (affected, warnings) = (ok.affected_rows, ok.warnings);
                self.answers.push(Answer::Ok { affected, warnings });
                self.after(ok.status);
            }
            Reply::Err => self.error(payload)?,
            Reply::LocalInfile => {
                self.answers.push(Answer::File);
                self.at = At::Start;
            }
            Reply::Columns { count, defined: true } => {
                self.at = At::Definitions { left: count, columns: Vec::new() };
            }
            Reply::Columns { count, defined: false } => {
                let columns = self.reading.known.to_vec();
                if columns.len() as u64 != count {
                    return None;
                }
                if self.has_eofs() {
                    self.at = At::Between { columns };
                } else {
                    self.begin(columns);
                }
            }
        }
        Some(())
    }

    fn row(&mut self, payload: &[u8]) -> Option<()> {
        if payload.first() == Some(&0xFF) {
            return self.error(payload);
        }
        let without_eofs = !self.has_eofs();
        if Reply::is_terminator(payload, without_eofs) {
            let status = Reply::terminator_status(payload, without_eofs).ok()?;
            self.after(status);
            return Some(());
        }
        let Some(Answer::Rows { columns, rows }) = self.answers.last_mut() else { return None };
        rows.push(cells(payload, columns, self.reading.binary)?);
        self.at = At::Rows;
        Some(())
    }

    fn error(&mut self, payload: &[u8]) -> Option<()> {
        let error = ErrPacket::parse(payload).ok()?;
        self.answers.push(Answer::Error {
            code: error.code,
            state: String::from_utf8_lossy(&error.sqlstate).into_owned(),
            message: String::from_utf8_lossy(error.message).into_owned(),
        });
        Some(())
    }

    fn after(&mut self, status: Status) {
        self.at = if status.has(Status::MORE_RESULTS) { At::Start } else { At::End };
    }
}

fn column(payload: &[u8], capabilities: Capabilities) -> Option<Column> {
    let definition = ColumnDefinition::parse(payload, capabilities).ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let parts = [definition.schema, definition.org_table, definition.org_name].map(text);
    Some(Column {
        name: text(definition.name),
        from: if parts[2].is_empty() { String::new() } else { parts.join(".") },
        kind: definition.column_type,
        flags: definition.flags,
        charset: definition.charset,
    })
}

fn cells(payload: &[u8], columns: &[Column], binary: bool) -> Option<Vec<Option<String>>> {
    if !binary {
        let mut row = TextRow::new(payload);
        let next = |column: &Column| {
            let value = row.next_cell().ok()?.value;
            Some(value.map(|value| cell::text(value, column.charset)))
        };
        return columns.iter().map(next).collect();
    }
    let mut row = BinaryRow::new(payload, columns.len()).ok()?;
    let next = |column: &Column| {
        let value = row.next_cell(column.kind).ok()?.value;
        Some(value.map(|value| cell::binary(value, column)))
    };
    columns.iter().map(next).collect()
}
