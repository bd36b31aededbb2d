//! What makes a pooled connection nobody's: RESET_CONNECTION, the gateway's own sql_mode, the wanted database; sent
//! in one write, answered in order.

use super::{Op, Step, failed, last_words, malformed, packet};
use crate::codec::{Capabilities, Command, ErrPacket, OkPacket, Status, write_frame};
use crate::fault::{Fault, FaultKind};
use crate::schema::Flavour;
use crate::session::UpstreamKey;

/// The commands of a baseline, in flight.
pub struct Baseline {
    /// How the packets begin that are still to come, the last one first.
    expected: Vec<u8>,
    /// How many are to come when the answer to INIT_DB is due; 0: none is.
    uses: usize,
}

/// What a connection is made to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// It was used before: nothing of that may be left.
    pub reset: bool,
    /// The target's own `sql_mode`, so that a DBA's SET GLOBAL does not change how the next session's text is read.
    pub sql_mode: Option<&'a str>,
    /// The database to be in.
    pub schema: Option<&'a str>,
    /// What FOUND_ROWS() is to tell, up to [`MAX_FOUND_ROWS`]: the rows of its session's last statement, which ran on
    /// another connection.
    pub found_rows: Option<u16>,
}

/// More rows than these are not selected for FOUND_ROWS() only.
pub const MAX_FOUND_ROWS: u16 = 1_000;

const OK: u8 = 0;

/// Stands for an OK that tells of changes; no packet begins so.
const TOLD: u8 = 0xF0;

/// What the gateway must be told of, and what clients expect to be.
const TRACKING: &str = "session_track_schema=1,session_track_state_change=0,\
    session_track_transaction_info='OFF',session_track_system_variables=\
    'autocommit,character_set_client,character_set_connection,character_set_results,time_zone'";

/// In front of a COM_QUERY's text, on a connection with query attributes: none.
const NO_ATTRIBUTES: &[u8] = &[0, 1];

impl Baseline {
    /// Appends the commands to `out`, to be written at once on a connection to a server of this flavour, whose login was by
    /// `key`.
    ///
    /// The character sets are set to those that the login chose: after a reset, MySQL leaves the server's default ones, in
    /// which text could be read otherwise, and MariaDB may have been told to hear no login's
    /// (`skip-character-set-client-handshake`). That must be told, too: a MariaDB whose global list of tracked variables is
    /// empty keeps to that whatever a session sets (measured with 10.11). Session tracking is as the servers have it by
    /// themselves, so that no SET GLOBAL keeps a change of those from the gateway. At the end a SELECT: both servers leave
    /// FOUND_ROWS as it was, MariaDB even to a new connection, and MySQL warns of some character sets.
    pub fn start(
        out: &mut Vec<u8>,
        flavour: Flavour,
        key: UpstreamKey,
        wanted: Wanted<'_>,
    ) -> Self {
        let Wanted { reset, sql_mode, schema, found_rows } = wanted;
        let (collation, capabilities) = (key.collation, Capabilities(key.capabilities));
        let mut expected = Vec::with_capacity(8);
        let mut command = |command: Command, body: &[u8], answers: &[u8]| {
            expected.extend_from_slice(answers);
            write_frame(out, 0, |out| {
                out.push(command.0);
                if command == Command::QUERY && capabilities.has(Capabilities::QUERY_ATTRIBUTES) {
                    out.extend_from_slice(NO_ATTRIBUTES);
                }
                out.extend_from_slice(body);
            });
        };
        if reset {
            command(Command::RESET_CONNECTION, &[], &[OK]);
        }
        // What the login asked for of the mode goes over the target's own.
        let spaces = capabilities.has(Capabilities::IGNORE_SPACE);
        let mode = sql_mode.filter(|mode| is_mode(mode)).map_or_else(String::new, |mode| {
            let comma = if spaces && !mode.is_empty() { "," } else { "" };
            let more = if spaces { "IGNORE_SPACE" } else { "" };
            format!("sql_mode='{mode}{comma}{more}',")
        });
        command(Command::QUERY, format!("SET SESSION {mode}{TRACKING}").as_bytes(), &[OK]);
        // MySQL names the one that it was set by in definitions.
        let charset = match flavour {
            Flavour::MySql => collation,
            Flavour::MariaDb => first_of_set(collation),
        };
        let text = format!(
            "SET character_set_client={charset},character_set_results={charset},\
             collation_connection={collation}"
        );
        command(Command::QUERY, text.as_bytes(), &[TOLD]);
        if let Some(schema) = schema {
            command(Command::INIT_DB, schema.as_bytes(), &[OK]);
        }
        // (The last of all: ROW_COUNT() then tells of a SELECT, too.)
        let rows = found_rows.unwrap_or(0).min(MAX_FOUND_ROWS);
        let answers = selected(rows, capabilities);
        command(Command::QUERY, rows_of(rows).as_bytes(), &answers);
        let uses = if schema.is_some() { answers.len() + 1 } else { 0 };
        expected.reverse();
        Self { expected, uses }
    }

    /// Looks at the answers.
    pub fn on_bytes(&mut self, bytes: &[u8]) -> Step {
        let mut consumed = 0;
        while let Some(expected) = self.expected.last().copied() {
            let (header, payload) = match packet(bytes.get(consumed..).unwrap_or_default()) {
                Ok(packet) => packet,
                Err(mut step) => {
                    step.consumed = consumed;
                    return step;
                }
            };
            match payload.first() {
                Some(0) if expected == TOLD && tells(payload) => {}
                Some(0) if expected == TOLD => return failed(untold()),
                Some(first) if *first == expected => {}
                Some(0xFF) => {
                    let last_words = last_words(header, payload);
                    return failed(last_words.unwrap_or_else(|| self.refused(payload)));
                }
                _ => return failed(malformed()),
            }
            consumed += header.total();
            self.expected.pop();
        }
        Step { consumed, op: Op::Done }
    }

    /// INIT_DB's error is the client's own; the others are the gateway's.
    fn refused(&self, payload: &[u8]) -> Fault {
        let Ok(error) = ErrPacket::parse(payload) else { return malformed() };
        if self.uses == self.expected.len() {
            let text = match error.code {
                1049 => "Unknown database",
                _ => "Rowgate [RG-UPSTREAM]: the database can't be selected",
            };
            return Fault::new(FaultKind::Upstream, error.code, error.sqlstate, text);
        }
        super::refusal("refused the session's baseline", payload)
    }
}

/// The first collation of the same character set: MariaDB takes a character set by no other's number (measured with 10.11:
/// 1115).
fn first_of_set(collation: u16) -> u16 {
    match collation {
        5 | 15 | 31 | 47..=49 | 94 => 8,
        65 => 11,
        // Of utf8mb3, and of utf8mb4.
        76 | 83 | 192..=223 | 576..=578 | 2_048..=2_303 => 33,
        46 | 224..=247 | 608..=610 | 2_304..=2_559 => 45,
        // Those that don't pad are numbered behind those that do.
        1_025..=1_279 => first_of_set(collation - 1_024),
        other => other,
    }
}

/// Whether an OK tells of changes.
fn tells(payload: &[u8]) -> bool {
    let status = OkPacket::parse(payload).map(|ok| ok.status);
    status.is_ok_and(|status| status.has(Status::SESSION_STATE_CHANGED))
}

/// Without session tracking the gateway could not follow how text is read.
fn untold() -> Fault {
    let text = "the database does not tell what a session sets: its global session_track_system_variables is empty, \
                which no session can change; set it to its default";
    Fault::upstream_down(text)
}

/// A SELECT of so many rows, from no table.
fn rows_of(count: u16) -> String {
    const TEN: &str = "SELECT 1 UNION ALL SELECT 1 UNION ALL SELECT 1 UNION ALL SELECT 1 UNION ALL SELECT 1 \
                       UNION ALL SELECT 1 UNION ALL SELECT 1 UNION ALL SELECT 1 UNION ALL SELECT 1 UNION ALL SELECT 1";
    const { assert!(MAX_FOUND_ROWS == 10 * 10 * 10) };
    match count {
        0 | 1 => format!("SELECT 1 LIMIT {count}"),
        _ => format!("SELECT 1 FROM ({TEN}) a, ({TEN}) b, ({TEN}) c LIMIT {count}"),
    }
}

/// How the packets of its answer begin: one column, its definition (which begins with "def"), the rows, and the ends of
/// definitions and rows, which may be one.
fn selected(rows: u16, capabilities: Capabilities) -> Vec<u8> {
    let mut answers = vec![1, 3];
    if !capabilities.has(Capabilities::DEPRECATE_EOF) {
        answers.push(0xFE);
    }
    answers.extend(std::iter::repeat_n(1, usize::from(rows)));
    answers.push(0xFE);
    answers
}

/// A list of mode names, and nothing that could end the literal.
fn is_mode(mode: &str) -> bool {
    mode.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b',')
}

#[cfg(test)]
mod tests {
    use super::*;
    use Flavour::{MariaDb, MySql};

    const KEY: UpstreamKey = UpstreamKey { capabilities: 0, collation: 8 };

    const WANTED: Wanted<'_> =
        Wanted { reset: true, sql_mode: Some("ANSI"), schema: Some("shop"), found_rows: None };

    #[test]
    fn texts_come_behind_no_attributes_where_the_connection_has_such() {
        let key = UpstreamKey { capabilities: Capabilities::QUERY_ATTRIBUTES, ..KEY };
        for (reset, texts) in [(false, 3), (true, 3)] {
            let mut out = Vec::new();
            let wanted = Wanted { reset, ..WANTED };
            Baseline::start(&mut out, MariaDb, key, wanted);
            let sent = out.escape_ascii().to_string();
            assert_eq!(sent.matches("\\x00\\x03\\x00\\x01SE").count(), texts, "{sent}");
            assert!(sent.contains("\\x02shop"), "{sent}");
        }
    }

    #[test]
    fn answers_in_order() {
        let mut out = Vec::new();
        let mut baseline = Baseline::start(&mut out, MariaDb, KEY, WANTED);
        assert_eq!(out[..5], [1, 0, 0, 0, 0x1F]);
        let sent = String::from_utf8_lossy(&out);
        assert!(sent.contains("_client=8,") && sent.contains("_results=8,"), "{sent}");
        let ok = b"\x07\0\0\x01\0\0\0\x02\0\0\0";
        let eof = b"\x05\0\0\x03\xfe\0\0\x02\0";
        let none = [&b"\x01\0\0\x01\x01\x04\0\0\x02\x03def"[..], eof, eof].concat();
        let told = b"\x07\0\0\x01\0\0\0\x02\x40\0\0";
        let untold = [&ok[..], ok, ok].concat();
        let step = Baseline::start(&mut Vec::new(), MariaDb, KEY, WANTED).on_bytes(&untold);
        assert!(matches!(step.op, Op::Failed(fault) if fault.code == 1429));
        let three = [&ok[..], ok, told].concat();
        let step = baseline.on_bytes(&three);
        assert_eq!(step.consumed, three.len());
        assert!(matches!(step.op, Op::Read { .. }));
        let error = b"\x0f\0\0\x01\xff\x19\x04#42000Unknown";
        assert!(matches!(baseline.on_bytes(error).op, Op::Failed(fault) if fault.code == 1049));
        let unasked = b"\x0f\0\0\0\xff\xbf\x0f#HY000Goodbye";
        assert!(matches!(baseline.on_bytes(unasked).op, Op::Failed(fault) if fault.code == 1158));
        let step = baseline.on_bytes(&[&ok[..], &none].concat());
        assert!(matches!(step.op, Op::Done), "{step:?}");
    }

    #[test]
    fn character_sets_are_set_as_the_server_takes_them() {
        for (flavour, collation, charset) in [
            (MySql, 224, 224),
            (MySql, 309, 309),
            (MariaDb, 224, 45),
            (MariaDb, 1_071, 8),
            (MariaDb, 63, 63),
        ] {
            let mut out = Vec::new();
            Baseline::start(&mut out, flavour, UpstreamKey { collation, ..KEY }, WANTED);
            let sent = String::from_utf8_lossy(&out);
            let wanted = format!(
                "_client={charset},character_set_results={charset},collation_connection={collation}"
            );
            assert!(sent.contains(&wanted), "{sent}");
        }
    }

    #[test]
    fn a_mode_cannot_end_its_literal() {
        let mut out = Vec::new();
        let wanted = Wanted { sql_mode: Some("A','B"), ..Wanted::default() };
        Baseline::start(&mut out, MariaDb, KEY, wanted);
        let sent = String::from_utf8_lossy(&out);
        assert!(sent.contains("SESSION session_track") && !sent.contains("sql_mode"), "{sent}");
    }

    #[test]
    fn rows_are_selected_to_be_found() {
        let row = b"\x02\0\0\x01\x011";
        let end = b"\x07\0\0\x01\xfe\0\0\x02\0\0\0";
        for count in [0_u16, 1, 2, 999] {
            let key = UpstreamKey { capabilities: Capabilities::DEPRECATE_EOF, ..KEY };
            let mut out = Vec::new();
            let wanted = Wanted { found_rows: Some(count), ..Wanted::default() };
            let mut baseline = Baseline::start(&mut out, MariaDb, key, wanted);
            assert!(String::from_utf8_lossy(&out).ends_with(&format!(" LIMIT {count}")));
            let ok = &b"\x07\0\0\x01\0\0\0\x02\0\0\0"[..];
            let told = &b"\x07\0\0\x01\0\0\0\x02\x40\0\0"[..];
            let first = [ok, told, b"\x01\0\0\x01\x01\x04\0\0\x02\x03def"].concat();
            let rows = row.repeat(usize::from(count));
            assert!(matches!(baseline.on_bytes(&[first, rows].concat()).op, Op::Read { .. }));
            assert!(matches!(baseline.on_bytes(end).op, Op::Done));
        }
    }
}
