//! The session under arbitrary bytes from both sides: no panic, and no masked byte is ever released.

use std::collections::BTreeMap;
use std::sync::Arc;

use rowgate::clock::Now;
use rowgate::codec::{
    Capabilities, ColumnDefinition, ColumnFlags, ColumnType, LoginRequest, StateChange, write_eof,
    write_frame, write_lenenc_bytes, write_state,
};
use rowgate::identity::{Principal, PrincipalKind};
use rowgate::policy::{
    Batch, Edit, Edits, GuardDecision, GuardInput, MaskPlan, MaskSpec, MaskedColumn, PluginFault,
    PluginHost, RowFilter, StreamInfo,
};
use rowgate::schema::{Flavour, LabelSet, ServerProfile, SqlMode};
use rowgate::session::{Op, Ruling, Session, Settings, Side, UpstreamReady};

/// What the masked column holds. Inputs that hold it themselves prove nothing and are passed over.
const MARKER: &[u8] = b"\xA7raw-cell\xA7";

/// Turns of one run: enough for any input that libFuzzer makes by default.
const TURNS: usize = 4_096;

/// Runs a session over `data`: half of it is the client's, half the server's, in chunks.
pub fn session(data: &[u8]) {
    if data.windows(MARKER.len()).any(|window| window == MARKER) {
        return;
    }
    let (head, rest) = data.split_at(data.len().min(3));
    let flags = head.first().copied().unwrap_or(0);
    let chunk = usize::from(head.get(1).copied().unwrap_or(16)).max(1);
    let split = rest.len() * usize::from(head.get(2).copied().unwrap_or(128)) / 256;
    let (client, server) = rest.split_at(split);
    let mut run = Run {
        session: Session::new(settings(), NOW),
        client: chunked(&[login(), command(flags), client.to_vec()].concat(), chunk),
        server: chunked(&[result(flags), server.to_vec()].concat(), chunk),
        buffers: [Vec::new(), Vec::new()],
        out: Vec::new(),
        sent: Vec::new(),
    };
    run.drive();
    // In one piece: a cell may leave in many small writes.
    let leaks = run.sent.windows(MARKER.len()).any(|window| window == MARKER);
    assert!(!leaks, "a masked cell was released");
}

const NOW: Now = Now { mono_ns: 0, wall_us: 0 };

struct Run {
    session: Session,
    client: Vec<Vec<u8>>,
    server: Vec<Vec<u8>>,
    buffers: [Vec<u8>; 2],
    out: Vec<u8>,
    /// Everything that the client was sent.
    sent: Vec<u8>,
}

impl Run {
    fn drive(&mut self) {
        let mut side = Side::Client;
        for _ in 0..TURNS {
            let at = usize::from(side == Side::Server);
            let mut buffer = std::mem::take(&mut self.buffers[at]);
            let step = self.session.on_bytes(side, &mut buffer, &mut self.out, NOW);
            assert!(step.consumed <= buffer.len(), "more consumed than lent");
            let released = buffer[..step.consumed].to_vec();
            buffer.drain(..step.consumed);
            self.buffers[at] = buffer;
            match step.op {
                Op::Read { side: next, at_least } => {
                    side = next;
                    if !self.fill(next, at_least) {
                        return;
                    }
                }
                Op::Forward if side == Side::Server => self.sent.extend_from_slice(&released),
                Op::Forward => {}
                Op::Emit(to) => {
                    if to == Side::Client {
                        self.sent.extend_from_slice(&self.out);
                    }
                    self.out.clear();
                }
                Op::Authenticate(_) => self.session.on_authenticated(Ok(principal())),
                Op::Decide(_) | Op::Check(_) => self.session.on_ruling(ruling()),
                Op::Kill(_) => self.session.on_killed(Ok(())),
                Op::Connect => self.session.on_upstream(Ok(UpstreamReady { connection_id: 1 })),
                Op::StartTls
                | Op::Compress(_)
                | Op::Refused(_)
                | Op::Release { .. }
                | Op::Done(_) => {}
                Op::Close(_) => return,
            }
            if self.session.is_idle() {
                side = Side::Client; // between statements the client's bytes are looked at next
            }
        }
    }

    fn fill(&mut self, side: Side, at_least: usize) -> bool {
        let at = usize::from(side == Side::Server);
        let chunks = if side == Side::Client { &mut self.client } else { &mut self.server };
        while self.buffers[at].len() < at_least {
            let Some(chunk) = chunks.pop() else { return false };
            self.buffers[at].extend_from_slice(&chunk);
        }
        true
    }
}

/// In reverse, so that they are popped in order.
fn chunked(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
    bytes.chunks(size).rev().map(<[u8]>::to_vec).collect()
}

fn settings() -> Settings {
    Settings {
        profile: Arc::new(ServerProfile {
            flavour: Flavour::MariaDb,
            version: 101_119,
            version_string: "10.11.19-MariaDB".to_owned(),
            lower_case_table_names: 0,
            sql_mode: SqlMode(0),
            capabilities: None,
        }),
        connection_id: 1 << 31,
        scramble: *b"abcdefghijklmnopqrst",
        scramble_key: [7; 32],
        login_key: None,
        issuers: true,
        tls_available: false,
        tls_required: false,
        is_local: false,
        compression: 0,
        host: "fuzz".into(),
        max_statement_bytes: 1 << 20,
        max_row_bytes: 1 << 20,
        room: rowgate::session::Room::new(256 << 20),
        worker: 0,
    }
}

fn login() -> Vec<u8> {
    let login = LoginRequest {
        capabilities: Capabilities(Capabilities::PROXIED & !Capabilities::DEPRECATE_EOF),
        max_packet: 1 << 24,
        collation: 45,
        user: "fuzz",
        auth_response: &[1; 20],
        schema: None,
        plugin: Some("mysql_native_password"),
        attributes: Vec::new(),
    };
    let mut out = Vec::new();
    write_frame(&mut out, 1, |out| login.write(out));
    out
}

fn command(flags: u8) -> Vec<u8> {
    let mut out = Vec::new();
    if flags & 1 == 0 {
        let several: &[u8] =
            b"\x03SELECT ssn, id FROM customers; SELECT ssn, id FROM customers; SELECT 1, 2";
        let one = several.split(|byte| *byte == b';').next().unwrap_or_default();
        let text = if flags & 32 == 0 { one } else { several };
        write_frame(&mut out, 0, |out| out.extend_from_slice(text));
    }
    out
}

/// A result whose first column is masked and holds the marker; its columns' types vary with the flags.
fn result(flags: u8) -> Vec<u8> {
    if flags & 2 != 0 {
        return Vec::new();
    }
    let column_type = if flags & 4 == 0 { ColumnType::VAR_STRING } else { ColumnType::NEWDECIMAL };
    let mut out = Vec::new();
    if flags & 64 != 0 {
        write_frame(&mut out, 1, |out| out.extend_from_slice(&state()));
        return out;
    }
    let mut seq = 0;
    let mut packet = |payload: &[u8]| {
        seq += 1;
        write_frame(&mut out, seq, |out| out.extend_from_slice(payload));
    };
    packet(&[2]);
    for name in [&b"ssn"[..], b"id"] {
        let definition = ColumnDefinition {
            catalog: b"def",
            schema: b"shop",
            table: b"customers",
            org_table: b"customers",
            name,
            org_name: name,
            extended: None,
            charset: if flags & 8 == 0 { 63 } else { 8 },
            length: 100,
            column_type,
            flags: ColumnFlags(1),
            decimals: 0,
            tail: &[0, 0],
        };
        let mut payload = Vec::new();
        definition.write(&mut payload);
        packet(&payload);
    }
    let mut eof = Vec::new();
    write_eof(&mut eof, 0, rowgate::codec::Status(2));
    packet(&eof);
    for _ in 0..3 {
        let mut row = Vec::new();
        write_lenenc_bytes(&mut row, MARKER);
        write_lenenc_bytes(&mut row, b"7");
        packet(&row);
    }
    if flags & 16 == 0 {
        packet(&eof);
    }
    out
}

/// An OK whose text and tracked state hold the marker.
fn state() -> Vec<u8> {
    let (mut ok, mut text, mut changes) = (vec![0, 0, 0, 2, 0x40, 0, 0], Vec::new(), Vec::new());
    write_lenenc_bytes(&mut text, MARKER);
    for change in [
        StateChange::Variable(b"time_zone", MARKER),
        StateChange::Other(StateChange::STATE, MARKER),
        StateChange::Other(3, MARKER),
    ] {
        change.write(&mut changes);
    }
    write_state(&mut ok, &text, &changes);
    ok
}

fn principal() -> Arc<Principal> {
    Arc::new(Principal {
        subject: "fuzz".to_owned(),
        kind: PrincipalKind::Agent,
        groups: Vec::new(),
        attributes: BTreeMap::new(),
    })
}

fn ruling() -> Ruling {
    let masked = MaskedColumn {
        index: 0,
        mask: MaskSpec::redact(),
        may_keep: Some(0),
        labels: LabelSet::EMPTY,
        label_names: Vec::new(),
        rule: "fuzz".to_owned(),
    };
    Ruling::Run {
        canonical: None,
        mask: Some(Arc::new(MaskPlan { columns: vec![masked], outputs: vec![None, None] })),
        plugins: Arc::new(Redacts),
        rewrite_errors: true,
        governed: true,
        uses: None,
        known: false,
    }
}

/// Redacts every cell.
struct Redacts;

impl PluginHost for Redacts {
    fn check_mask(&self, _: &MaskSpec) -> Result<(), String> {
        Ok(())
    }

    fn open(&self, _: usize, _: &StreamInfo<'_>) -> Result<Box<dyn RowFilter>, PluginFault> {
        Ok(Box::new(Redacts))
    }

    fn guards(&self) -> bool {
        false
    }

    fn guard(&self, _: usize, _: &GuardInput<'_>) -> Result<GuardDecision, PluginFault> {
        Ok(GuardDecision::Allow)
    }
}

impl RowFilter for Redacts {
    fn filter(&mut self, batch: Batch<'_>, edits: &mut Edits) -> Result<(), PluginFault> {
        let mut start = 0;
        for len in batch.lens.iter().filter(|len| **len != u32::MAX) {
            if *len > 0 {
                edits.edits.push(Edit { start, len: *len, replacement_len: 1 });
                edits.replacement.push(b'*');
            }
            start += len;
        }
        Ok(())
    }
}
