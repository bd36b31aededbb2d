//! What reading the wire costs: packets found in a buffer, rows walked cell by cell, a definition, a login.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rowgate::codec::{
    BinaryRow, Capabilities, ColumnDefinition, ColumnFlags, ColumnType, Header, LoginRequest,
    TextRow, write_binary_row_head, write_frame, write_lenenc_bytes,
};

const ROWS: usize = 1_000;
const COLUMNS: usize = 10;

/// Rows of ten texts of 16 bytes, in either protocol.
fn rows(binary: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for at in 0..ROWS {
        write_frame(&mut out, u8::try_from(at % 256).unwrap_or(0), |out| {
            if binary {
                write_binary_row_head(out, COLUMNS, |_| false);
            }
            (0..COLUMNS).for_each(|_| write_lenenc_bytes(out, b"0123456789abcdef"));
        });
    }
    out
}

fn packets(mut buffer: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let header = Header::parse(buffer)?;
        let payload = header.payload(buffer)?;
        buffer = &buffer[header.total()..];
        Some(payload)
    })
}

fn walking(c: &mut Criterion) {
    let (text, binary) = (rows(false), rows(true));
    let mut group = c.benchmark_group("rows");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("find packets", |b| {
        b.iter(|| packets(black_box(&text)).map(<[u8]>::len).sum::<usize>());
    });
    group.bench_function("walk text rows", |b| {
        b.iter(|| {
            let cells = packets(black_box(&text)).map(|payload| {
                let mut row = TextRow::new(payload);
                let cells = (0..COLUMNS).map_while(|_| row.next_cell().ok());
                cells.map(|cell| cell.raw.len()).sum::<usize>()
            });
            cells.sum::<usize>()
        });
    });
    group.bench_function("walk binary rows", |b| {
        b.iter(|| {
            let cells = packets(black_box(&binary)).map(|payload| {
                let Ok(mut row) = BinaryRow::new(payload, COLUMNS) else { return 0 };
                let cells = (0..COLUMNS).map_while(|_| row.next_cell(ColumnType::VAR_STRING).ok());
                cells.map(|cell| cell.raw.len()).sum::<usize>()
            });
            cells.sum::<usize>()
        });
    });
    group.finish();
}

fn parsing(c: &mut Criterion) {
    let definition = ColumnDefinition {
        catalog: b"def",
        schema: b"shop",
        table: b"c",
        org_table: b"customers",
        name: b"card_number",
        org_name: b"card_number",
        extended: None,
        charset: 45,
        length: 80,
        column_type: ColumnType::VAR_STRING,
        flags: ColumnFlags(0),
        decimals: 0,
        tail: &[0, 0],
    };
    let mut payload = Vec::new();
    definition.write(&mut payload);
    c.bench_function("parse a column definition", |b| {
        b.iter(|| ColumnDefinition::parse(black_box(&payload), Capabilities(0)).is_ok());
    });
    let login = LoginRequest {
        capabilities: Capabilities(Capabilities::PROXIED),
        max_packet: 1 << 24,
        collation: 45,
        user: "bot;run=8412;pipeline=nightly",
        auth_response: &[7; 32],
        schema: Some("shop"),
        plugin: Some("caching_sha2_password"),
        attributes: vec![("_client_name", "libmariadb"), ("_os", "Linux"), ("_pid", "17")],
    };
    let mut payload = Vec::new();
    login.write(&mut payload);
    c.bench_function("parse a login", |b| {
        b.iter(|| LoginRequest::parse(black_box(&payload)).is_ok());
    });
}

criterion_group!(benches, walking, parsing);
criterion_main!(benches);
