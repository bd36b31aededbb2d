//! The gateway's own queries in the text protocol: catalogue, samples. Results are collected, bounded.

use super::{Op, Step, failed, last_words, malformed, packet, refusal};
use crate::codec::{Capabilities, Command, Header, Reply, TextRow, write_frame};
use crate::fault::Fault;

/// The most memory one result may take, its cells' own included: a catalogue of a million columns.
const MAX_RESULT: usize = 512 << 20;

/// The same of a statement that brings no rows: a KILL.
const MAX_SHORT: usize = 64 << 10;

/// The gateway's own connections ask for nothing that changes the form of a result.
const PLAIN: Capabilities = Capabilities(0);

/// A query in flight, on a connection without DEPRECATE_EOF, whose results always have definitions.
pub struct Query {
    state: State,
    rows: Vec<Vec<Option<Vec<u8>>>>,
    size: usize,
    /// The most memory that the result may take, and the longest packet.
    limit: usize,
}

#[derive(Clone, Copy)]
enum State {
    First,
    Definitions { left: u64, columns: usize },
    DefinitionsEof { columns: usize },
    Rows { columns: usize },
}

impl Query {
    /// Appends the query to `out`.
    pub fn start(out: &mut Vec<u8>, sql: &str) -> Self {
        write_frame(out, 0, |out| {
            out.push(Command::QUERY.0);
            out.extend_from_slice(sql.as_bytes());
        });
        Self { state: State::First, rows: Vec::new(), size: 0, limit: MAX_RESULT }
    }

    /// The same, of a statement that is answered with an OK or an error.
    #[must_use]
    pub fn short(self) -> Self {
        Self { limit: MAX_SHORT, ..self }
    }

    /// The rows, once it is [`Op::Done`].
    pub fn into_rows(self) -> Vec<Vec<Option<Vec<u8>>>> {
        self.rows
    }

    /// Looks at the answer.
    pub fn on_bytes(&mut self, bytes: &[u8]) -> Step {
        let mut consumed = 0;
        loop {
            let rest = bytes.get(consumed..).unwrap_or_default();
            if Header::parse(rest).is_some_and(|header| header.len > self.limit) {
                return failed(too_long());
            }
            let (header, payload) = match packet(rest) {
                Ok(packet) => packet,
                Err(mut step) => {
                    step.consumed = consumed;
                    return step;
                }
            };
            consumed += header.total();
            if let Some(fault) = last_words(header, payload) {
                return failed(fault);
            }
            match self.packet(payload) {
                Ok(false) => {}
                Ok(true) => return Step { consumed, op: Op::Done },
                Err(fault) => return failed(fault),
            }
        }
    }

    /// Takes one packet; whether it was the last.
    fn packet(&mut self, payload: &[u8]) -> Result<bool, Fault> {
        if payload.first() == Some(&0xFF) {
            return Err(refusal("refused a query of the gateway's own", payload));
        }
        self.state = match self.state {
            State::First => match Reply::parse(payload, PLAIN).map_err(|_| malformed())? {
                Reply::Ok => return Ok(true),
                Reply::Columns { count: left, .. } if left > 0 && left < 4_096 => {
                    State::Definitions { left, columns: usize::try_from(left).unwrap_or(0) }
                }
                _ => return Err(malformed()),
            },
            State::Definitions { left: 1, columns } => State::DefinitionsEof { columns },
            State::Definitions { left, columns } => State::Definitions { left: left - 1, columns },
            State::DefinitionsEof { columns } => State::Rows { columns },
            State::Rows { .. } if Reply::is_terminator(payload, false) => return Ok(true),
            State::Rows { columns } => {
                self.row(payload, columns)?;
                State::Rows { columns }
            }
        };
        Ok(false)
    }

    fn row(&mut self, payload: &[u8], columns: usize) -> Result<(), Fault> {
        // A cell of one byte takes many times that here.
        self.size += payload.len() + columns * size_of::<Option<Vec<u8>>>();
        if self.size > self.limit {
            return Err(too_long());
        }
        let mut cells = TextRow::new(payload);
        let mut row = Vec::with_capacity(columns);
        for _ in 0..columns {
            let cell = cells.next_cell().map_err(|_| malformed())?;
            row.push(cell.value.map(<[u8]>::to_vec));
        }
        self.rows.push(row);
        Ok(())
    }
}

fn too_long() -> Fault {
    Fault::upstream_lost("the answer to a query of the gateway's own is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_a_kill_is_short() {
        let mut query = Query::start(&mut Vec::new(), "KILL 7").short();
        let long = [0xFF, 0xFF, 0xFF, 1, 0xFF];
        assert!(matches!(query.on_bytes(&long).op, Op::Failed(fault) if fault.code == 1158));
        let mut query = Query::start(&mut Vec::new(), "KILL 7").short();
        let mut step = |seq: u8, payload: &[u8]| {
            let mut bytes = Vec::new();
            write_frame(&mut bytes, seq, |out| out.extend_from_slice(payload));
            query.on_bytes(&bytes).op
        };
        step(1, &[1]);
        step(2, b"\x03def");
        step(3, &[0xFE, 0, 0, 2, 0]);
        let ended = (0..10_000_usize).find(|_| matches!(step(4, &[0]), Op::Failed(_)));
        assert_eq!(ended, Some(MAX_SHORT / (1 + size_of::<Option<Vec<u8>>>())));
    }

    #[test]
    fn a_result_of_empty_cells_is_bounded_by_what_it_takes() {
        let mut query = Query::start(&mut Vec::new(), "SELECT 1");
        let mut step = |payload: &[u8]| {
            let mut bytes = Vec::new();
            write_frame(&mut bytes, 0, |out| out.extend_from_slice(payload));
            query.on_bytes(&bytes).op
        };
        step(&[0xFC, 0xFF, 0x0F]);
        (0..4_095).for_each(|_| drop(step(b"\x03def")));
        step(&[0xFE, 0, 0, 2, 0]);
        let row = [0; 4_095];
        let ended = (0..10_000_usize).find(|_| matches!(step(&row), Op::Failed(_)));
        let per_row = 4_095 * (1 + size_of::<Option<Vec<u8>>>());
        assert_eq!(ended, Some(MAX_RESULT / per_row));
    }
}
