//! What the session itself costs for each byte of a result: passing it, masking 2 of 10 columns by a function in
//! Rust (the machine's own share), and by the shipped plugin (`cargo xtask plugins` builds it).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rowgate::clock::Now;
use rowgate::codec::{
    Capabilities, ColumnDefinition, ColumnFlags, ColumnType, LoginRequest, Status, write_eof,
    write_frame, write_lenenc_bytes,
};
use rowgate::config;
use rowgate::identity::{Principal, PrincipalKind};
use rowgate::plugin::Plugins;
use rowgate::policy::{
    Batch, Edit, Edits, GuardDecision, GuardInput, MaskPlan, MaskSpec, MaskedColumn, PluginFault,
    PluginHost, RowFilter, StreamInfo,
};
use rowgate::schema::{Flavour, LabelSet, ServerProfile, SqlMode};
use rowgate::session::{Op, Ruling, Session, Settings, Side, UpstreamReady};

const NOW: Now = Now { mono_ns: 0, wall_us: 0 };
const ROWS: usize = 10_000;
const COLUMNS: u16 = 10;

/// What one turn of the gateway reads at the most.
const STEP: usize = 64 << 10;

/// A session, logged in.
fn session() -> Session {
    let settings = Settings {
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
        issuers: false,
        tls_available: false,
        tls_required: false,
        is_local: false,
        compression: 0,
        host: "bench".into(),
        max_statement_bytes: 1 << 20,
        max_row_bytes: 1 << 20,
        room: rowgate::session::Room::new(256 << 20),
        worker: 0,
    };
    let login = LoginRequest {
        capabilities: Capabilities(Capabilities::PROXIED & !Capabilities::DEPRECATE_EOF),
        max_packet: 1 << 24,
        collation: 45,
        user: "bench",
        auth_response: &[1; 20],
        schema: None,
        plugin: Some("mysql_native_password"),
        attributes: Vec::new(),
    };
    let mut session = Session::new(settings, NOW);
    let mut bytes = Vec::new();
    write_frame(&mut bytes, 1, |out| login.write(out));
    drive(
        &mut session,
        Side::Client,
        &mut bytes,
        &Ruling::Refuse(rowgate::fault::Fault::internal()),
    );
    assert!(session.is_idle() && session.is_logged_in());
    session
}

/// Hands these bytes over and does what is asked until more are wanted; how many bytes went on to the client.
fn drive(session: &mut Session, from: Side, bytes: &mut Vec<u8>, ruling: &Ruling) -> usize {
    let (mut out, mut sent, mut at) = (Vec::new(), 0, 0);
    loop {
        let step = session.on_bytes(from, &mut bytes[at..], &mut out, NOW);
        at += step.consumed;
        match step.op {
            Op::Read { .. } => break,
            Op::Forward => sent += step.consumed,
            Op::Emit(_) => {
                sent += out.len();
                out.clear();
            }
            Op::Authenticate(_) => session.on_authenticated(Ok(Arc::new(Principal {
                subject: "bench".to_owned(),
                kind: PrincipalKind::Agent,
                groups: Vec::new(),
                attributes: BTreeMap::new(),
            }))),
            Op::Decide(_) | Op::Check(_) => session.on_ruling(ruling.clone()),
            Op::Kill(_) => session.on_killed(Ok(())),
            Op::Connect => session.on_upstream(Ok(UpstreamReady { connection_id: 1 })),
            Op::StartTls | Op::Compress(_) | Op::Refused(_) | Op::Release { .. } | Op::Done(_) => {}
            Op::Close(kind) => panic!("closed: {kind:?}"),
        }
        if from == Side::Server && session.is_idle() {
            break;
        }
    }
    bytes.drain(..at);
    sent
}

/// A result of ten columns of text; the rows lie in packets of their own.
fn result() -> Vec<u8> {
    let mut out = Vec::new();
    let mut seq = 0_u8;
    let mut packet = |payload: &[u8]| {
        seq = seq.wrapping_add(1);
        write_frame(&mut out, seq, |out| out.extend_from_slice(payload));
    };
    packet(&[u8::try_from(COLUMNS).unwrap_or(0)]);
    let mut payload = Vec::new();
    for at in 0..COLUMNS {
        let name = format!("c{at}");
        let definition = ColumnDefinition {
            catalog: b"def",
            schema: b"bench",
            table: b"t",
            org_table: b"t",
            name: name.as_bytes(),
            org_name: name.as_bytes(),
            extended: None,
            charset: 45,
            length: 64,
            column_type: ColumnType::VAR_STRING,
            flags: ColumnFlags(1),
            decimals: 0,
            tail: &[0, 0],
        };
        payload.clear();
        definition.write(&mut payload);
        packet(&payload);
    }
    let mut eof = Vec::new();
    write_eof(&mut eof, 0, Status(2));
    packet(&eof);
    payload.clear();
    (0..COLUMNS).for_each(|_| write_lenenc_bytes(&mut payload, b"value-1-00000017"));
    (0..ROWS).for_each(|_| packet(&payload));
    packet(&eof);
    out
}

/// One statement and its whole result.
fn relay(session: &mut Session, result: &[u8], buffer: &mut Vec<u8>, ruling: &Ruling) -> usize {
    let mut command = Vec::new();
    write_frame(&mut command, 0, |out| out.extend_from_slice(b"\x03SELECT * FROM t"));
    drive(session, Side::Client, &mut command, ruling);
    let mut sent = 0;
    for step in result.chunks(STEP) {
        buffer.extend_from_slice(step);
        sent += drive(session, Side::Server, buffer, ruling);
    }
    assert!(session.is_idle() && buffer.is_empty());
    sent
}

fn ruling(mask: Option<&str>, plugins: Arc<dyn PluginHost>) -> Ruling {
    let plan = mask.and_then(|spec| MaskSpec::parse(spec).ok()).map(|mask| {
        let column = |index| MaskedColumn {
            index,
            mask: mask.clone(),
            may_keep: Some(4),
            labels: LabelSet::EMPTY,
            label_names: Vec::new(),
            rule: "bench".to_owned(),
        };
        let outputs = (0..COLUMNS).map(|_| None).collect();
        Arc::new(MaskPlan { columns: vec![column(1), column(2)], outputs })
    });
    Ruling::Run {
        canonical: None,
        mask: plan,
        plugins,
        rewrite_errors: true,
        governed: true,
        uses: None,
        known: false,
    }
}

fn relaying(c: &mut Criterion) {
    let result = result();
    let mut session = session();
    let mut buffer = Vec::new();
    let mut group = c.benchmark_group("session");
    group.throughput(Throughput::Bytes(result.len() as u64));
    let mut measure = |name: &str, ruling: &Ruling| {
        group.bench_function(name, |b| {
            b.iter(|| relay(&mut session, &result, &mut buffer, ruling));
        });
    };
    measure("pass", &ruling(None, Arc::new(KeepsFour)));
    let spec = "mask-standard/keep-last:4";
    measure("mask 2 of 10, in Rust", &ruling(Some(spec), Arc::new(KeepsFour)));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/plugins/mask-standard.wasm");
    let setting = config::Plugin {
        name: "mask-standard".to_owned(),
        path,
        config: toml::Table::new(),
        memory_mib: 16,
        timeout_ms: 1_000,
    };
    match Plugins::load(&[setting], BTreeMap::new(), 1) {
        Ok(plugins) => measure("mask 2 of 10, by plugin", &ruling(Some(spec), Arc::new(plugins))),
        Err(error) => eprintln!("the plugin's share is left out: {error}"),
    }
    group.finish();
}

/// Twelve stars for all but the last four bytes: what the plugin does, without WASM.
struct KeepsFour;

impl PluginHost for KeepsFour {
    fn check_mask(&self, _: &MaskSpec) -> Result<(), String> {
        Ok(())
    }

    fn open(&self, _: usize, _: &StreamInfo<'_>) -> Result<Box<dyn RowFilter>, PluginFault> {
        Ok(Box::new(KeepsFour))
    }

    fn guards(&self) -> bool {
        false
    }

    fn guard(&self, _: usize, _: &GuardInput<'_>) -> Result<GuardDecision, PluginFault> {
        Ok(GuardDecision::Allow)
    }
}

impl RowFilter for KeepsFour {
    fn filter(&mut self, batch: Batch<'_>, edits: &mut Edits) -> Result<(), PluginFault> {
        let mut start = 0;
        for len in batch.lens {
            edits.edits.push(Edit { start, len: len - 4, replacement_len: 12 });
            edits.replacement.extend_from_slice(b"************");
            start += len;
        }
        Ok(())
    }
}

criterion_group!(benches, relaying);
criterion_main!(benches);
