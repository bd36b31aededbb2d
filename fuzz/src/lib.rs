//! What must hold for any input, once for all targets. Each oracle also runs as a plain test on a few seeds, so that it is
//! checked where no fuzzer is.

mod identity;
mod saml;
mod session;

use rowgate::codec::{
    Attributes, AuthSwitch, BinaryRow, BulkExecute, Capabilities, ChangeUser, ColumnDefinition,
    ColumnType, ErrPacket, ExecuteHead, HEADER_LEN, Handshake, Header, LoginRequest, MAX_PAYLOAD,
    MAX_QUERY_ATTRIBUTES, NamedParameters, OkPacket, PrepareOk, Reply, SslRequest, TextRow,
    bulk_rows, state_changes, write_packet,
};
use rowgate::schema::{
    Catalog, Column, Flavour, LabelSet, Labels, ServerProfile, SqlMode, Table, TableKind,
};
use rowgate::sql::{Context, Tokens, analyse, analyse_tokens, split};

pub use identity::{jwt, user_name};
pub use saml::saml_response;
pub use session::session;

/// Frames: what is written is read back, and a header never points outside.
pub fn frame(data: &[u8]) {
    let mut rest = data;
    while let Some(header) = Header::parse(rest) {
        match header.payload(rest) {
            Some(payload) => assert_eq!(payload.len(), header.len),
            None => break,
        }
        rest = &rest[header.total()..];
    }
    let mut out = Vec::new();
    write_packet(&mut out, 7, data);
    let header = Header::parse(&out).expect("a written packet has a header");
    assert_eq!((header.len, header.seq), (data.len().min(MAX_PAYLOAD), 7));
    assert_eq!(header.payload(&out), Some(&data[..header.len]));
    assert_eq!(out.len() - HEADER_LEN, header.len);
}

/// Logins: no panic, and what can be read and written is read back the same.
pub fn login(data: &[u8]) {
    if let Ok(login) = LoginRequest::parse(data) {
        let mut out = Vec::new();
        login.write(&mut out);
        if let Ok(again) = LoginRequest::parse(&out) {
            assert_eq!((again.user, again.auth_response), (login.user, login.auth_response));
            assert_eq!(
                (again.schema, again.plugin.unwrap_or_default()),
                (login.schema, login.plugin.unwrap_or_default())
            );
        }
    }
    if let Ok(greeting) = Handshake::parse(data) {
        let mut out = Vec::new();
        greeting.write(&mut out);
        assert_eq!(Handshake::parse(&out).as_ref(), Ok(&greeting));
    }
    let _ = SslRequest::parse(data);
    let _ = AuthSwitch::parse(data);
    for capabilities in [0, u64::MAX, Capabilities::PROXIED] {
        let _ = ChangeUser::parse(data, Capabilities(capabilities));
    }
}

/// Results: no panic, cells lie inside their row, definitions survive a round trip.
pub fn resultset(data: &[u8]) {
    for capabilities in [0, Capabilities::METADATA].map(Capabilities) {
        if let Ok(definition) = ColumnDefinition::parse(data, capabilities) {
            let mut out = Vec::new();
            definition.write(&mut out);
            assert_eq!(ColumnDefinition::parse(&out, capabilities), Ok(definition));
        }
        let _ = (PrepareOk::parse(data, capabilities), Reply::parse(data, capabilities));
    }
    let _ = (OkPacket::parse(data), ErrPacket::parse(data));
    let _ = (ExecuteHead::parse(data), state_changes(data, |_| {}));
    parameters(data);
    for deprecate_eof in [false, true] {
        if Reply::is_terminator(data, deprecate_eof) {
            let _ = Reply::terminator_status(data, deprecate_eof);
        }
    }
    let mut row = TextRow::new(data);
    let mut seen = 0;
    while let Ok(cell) = row.next_cell() {
        seen += cell.raw.len();
    }
    assert!(seen <= data.len());
    let types: Vec<ColumnType> = data.iter().take(16).map(|byte| ColumnType(*byte)).collect();
    if let Ok(mut row) = BinaryRow::new(data, types.len()) {
        let mut seen = 1 + BinaryRow::bitmap_len(types.len());
        for column_type in types {
            match row.next_cell(column_type) {
                Ok(cell) => seen += cell.raw.len(),
                Err(_) => break,
            }
        }
        assert!(seen <= data.len());
    }
}

/// Parameters: no panic, and what is told apart lies inside.
fn parameters(data: &[u8]) {
    if let Ok((attributes, len)) = Attributes::of_query(data) {
        let total = attributes.total();
        let seen: usize = attributes.map(|found| found.value.map_or(0, <[u8]>::len)).sum();
        assert!(total <= MAX_QUERY_ATTRIBUTES && seen <= len && len <= data.len());
    }
    for own in [0, 1, 9] {
        if let Ok(named) = NamedParameters::parse(data, own) {
            let mut out = Vec::new();
            if named.write_own(own, None, &mut out).is_some() {
                assert!(out.len() <= data.len() + 1);
            }
            let _ = named.attributes(own).last();
        }
        if let Some((types, rows)) = BulkExecute::parse(data).ok().and_then(|bulk| bulk.rows(own))
            && let Ok(rows) = bulk_rows(types, rows)
        {
            assert!(rows <= data.len());
        }
    }
}

/// Statements: no panic, the canonical text keeps its length, and reading it again gives the same shape.
pub fn lexer(data: &[u8]) {
    for flavour in [Flavour::MySql, Flavour::MariaDb] {
        let catalog = catalog(flavour);
        for mode in [0, SqlMode::ANSI_QUOTES, SqlMode::NO_BACKSLASH_ESCAPES] {
            let cx = Context { catalog: &catalog, sql_mode: SqlMode(mode), schema: Some("shop") };
            if let Some(split) = split(data, &catalog.profile, cx.sql_mode) {
                let mut end = 0;
                for range in &split.statements {
                    assert!(range.start >= end && range.end >= range.start, "statements overlap");
                    end = range.end;
                }
                assert!(split.statements.len() > 1 && end <= split.text.len());
                assert!(split.text.len() <= data.len());
            }
            forms(data, &cx);
            let analysis = analyse(data, &cx);
            let Some(canonical) = analysis.canonical else { continue };
            assert_eq!(canonical.len(), data.len());
            if analysis.unknown.is_none() {
                let again = analyse(&canonical, &cx);
                assert_eq!((again.digest, again.facts), (analysis.digest, analysis.facts));
            }
        }
    }
}

/// What differs in one byte and is of the same form has the same analysis.
fn forms(data: &[u8], cx: &Context<'_>) {
    let (mut own, mut others) = (Tokens::default(), Tokens::default());
    own.read(data, cx);
    let analysis = analyse_tokens(data, &own, cx);
    let Some(form) = own.form(data, &analysis) else { return };
    let mut other = data.to_vec();
    for at in 0..data.len().min(128) {
        for byte in [b'7', b'z', b'\'', b' ', b'.'] {
            other[at] = byte;
            others.read(&other, cx);
            if others.have_form(&other) && form.is_of(&other, &others) {
                let again = analyse(&other, cx);
                assert_eq!(again.digest_text, analysis.digest_text);
                assert_eq!((again.digest, &again.facts), (analysis.digest, &analysis.facts));
                assert!(again.unknown.is_none() && again.canonical.is_none());
            }
        }
        other[at] = data[at];
    }
}

fn catalog(flavour: Flavour) -> Catalog {
    let mut labels = Labels::default();
    let mut pii = LabelSet::EMPTY;
    if let Some(id) = labels.intern("pii") {
        pii.insert(id);
    }
    let column = |name: &str, labels| Column {
        name: name.to_owned(),
        data_type: "varchar".to_owned(),
        labels,
        computed: false,
        invisible: false,
    };
    let customers = Table {
        schema: "shop".to_owned(),
        name: "customers".to_owned(),
        kind: TableKind::Base,
        columns: vec![column("id", LabelSet::EMPTY), column("ssn", pii)],
        labels: LabelSet::EMPTY,
        unique_keys: vec![vec![0]],
        estimated_rows: 10,
        sensitive: true,
        calls_sensitive: false,
        has_triggers: false,
        generates: false,
    };
    let profile = ServerProfile {
        flavour,
        version: 101_119,
        version_string: String::new(),
        lower_case_table_names: 0,
        sql_mode: SqlMode(0),
        capabilities: None,
    };
    Catalog::new(1, profile, labels, vec![customers], Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_oracle_holds_on_seeds() {
        let seeds: [&[u8]; 10] = [
            b"SELECT 1; /* x */; BEGIN NOT ATOMIC DO 1; END; DO 2",
            b"",
            b"\x03\0\0\0abc",
            b"SELECT /*!50000 ssn, */ id FROM customers -- x",
            b"\x0a10.11.0-MariaDB\0",
            b"\xfe\0\0\x02\0",
            b"\xff\x15\x04#28000denied",
            b"\x03def\x04shop\x01c\x09customers\x03ssn\x03ssn\x0c\x2d\0\x2c\0\0\0\xfd\0\0\0\0\0",
            &[0; 64],
            &[0xFF; 64],
        ];
        for seed in seeds {
            frame(seed);
            login(seed);
            resultset(seed);
            lexer(seed);
            session(seed);
            for first in 0..=255_u8 {
                session(&[&[first, 3, 200][..], seed].concat());
            }
        }
    }

    #[test]
    fn no_command_shows_a_masked_cell() {
        for command in (0..=0x20).chain(0xFA..=0xFF) {
            for flags in 0..=255_u8 {
                // Of the twelve bytes after the head, five are the client's: a packet of this command alone.
                let client = [1, 0, 0, 0, command];
                session(&[&[flags, 8, 107][..], &client, &[0; 7]].concat());
            }
        }
    }
}
