//! What is written is read back, what is cut short is an error, and nothing panics.

use proptest::prelude::*;

use super::*;

/// Letters only: no NUL, which ends most texts on the wire.
fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_é☃;=]{0,40}"
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..most)
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// Every shorter payload is refused, down to the empty one.
fn no_prefix<'a, T: std::fmt::Debug>(
    payload: &'a [u8],
    from: usize,
    parse: impl Fn(&'a [u8]) -> Result<T, CodecError>,
) {
    for end in 0..from.min(payload.len()) {
        let parsed = parse(&payload[..end]);
        assert!(parsed.is_err(), "{end} bytes of {}: {parsed:?}", payload.len());
    }
}

proptest! {
    #[test]
    fn greetings(
        version in word(), plugin in word(), scramble: [u8; SCRAMBLE_LEN], connection_id: u32,
        collation: u8, status: u16, flags: u64, mariadb: bool,
    ) {
        let own = Capabilities::LONG_PASSWORD;
        // MySQL has no upper half: MariaDB's form is the one without LONG_PASSWORD.
        let flags = if mariadb { flags & !own } else { (flags | own) & 0xFFFF_FFFF };
        let greeting = Handshake {
            version: &version,
            connection_id,
            scramble,
            capabilities: Capabilities(flags | Capabilities::PLUGIN_AUTH),
            collation,
            status,
            plugin: &plugin,
        };
        let payload = written(|out| greeting.write(out));
        prop_assert_eq!(&Handshake::parse(&payload).unwrap(), &greeting);
        // The plugin's name may lack its end.
        no_prefix(&payload, payload.len() - plugin.len() - 1, Handshake::parse);
    }

    #[test]
    fn logins(
        user in word(), auth_response in bytes(250), schema in word(), plugin in word(),
        attributes in proptest::collection::vec((word(), word()), 0..8),
        with_schema: bool, with_attributes: bool, lenenc: bool, collation: u8, extended: Option<u32>,
    ) {
        // MariaDB's clients leave LONG_PASSWORD out, and so have an upper half.
        let own = extended.map_or(Capabilities::LONG_PASSWORD, |flags| u64::from(flags) << 32);
        let mut flags = Capabilities::PROTOCOL_41 | Capabilities::PLUGIN_AUTH | own;
        let schema = Some(schema.as_str()).filter(|name| with_schema && !name.is_empty());
        for (bit, set) in [
            (Capabilities::CONNECT_WITH_DB, schema.is_some()),
            (Capabilities::CONNECT_ATTRS, with_attributes),
            (Capabilities::PLUGIN_AUTH_LENENC, lenenc),
        ] {
            flags |= if set { bit } else { 0 };
        }
        let attributes = attributes.iter().filter(|_| with_attributes);
        let login = LoginRequest {
            capabilities: Capabilities(flags),
            max_packet: 0xFF_FFFF,
            collation,
            user: &user,
            auth_response: &auth_response,
            schema,
            plugin: Some(&plugin),
            attributes: attributes.map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        };
        let payload = written(|out| login.write(out));
        prop_assert_eq!(&LoginRequest::parse(&payload).unwrap(), &login);
        // What follows the answer may be left out by old clients, in whole fields.
        let head = 32 + user.len() + 1 + 1 + auth_response.len() + schema.map_or(0, |name| name.len() + 1);
        no_prefix(&payload, head, LoginRequest::parse);
    }

    #[test]
    fn switches_of_plugin(plugin in word(), scramble: [u8; SCRAMBLE_LEN]) {
        let payload = written(|out| write_auth_switch(out, &plugin, &scramble));
        let switch = AuthSwitch::parse(&payload).unwrap();
        prop_assert_eq!((switch.plugin, switch.scramble()), (plugin.as_str(), Some(scramble)));
        no_prefix(&payload, plugin.len() + 2, AuthSwitch::parse);
    }

    #[test]
    fn column_definitions(
        texts in proptest::collection::vec(bytes(300), 6), charset: u16, length: u32, column_type: u8,
        flags: u16, decimals: u8, extended in proptest::option::of(bytes(40)),
    ) {
        let flag = if extended.is_some() { Capabilities::MARIADB_EXTENDED_METADATA } else { 0 };
        let parse = |payload| ColumnDefinition::parse(payload, Capabilities(flag));
        let definition = ColumnDefinition {
            catalog: &texts[0],
            schema: &texts[1],
            table: &texts[2],
            org_table: &texts[3],
            name: &texts[4],
            org_name: &texts[5],
            extended: extended.as_deref(),
            charset,
            length,
            column_type: ColumnType(column_type),
            flags: ColumnFlags(flags),
            decimals,
            tail: &[0, 0],
        };
        let payload = written(|out| definition.write(out));
        prop_assert_eq!(&parse(&payload).unwrap(), &definition);
        no_prefix(&payload, payload.len(), parse);
    }

    #[test]
    fn ends_of_responses(
        affected_rows: u64, last_insert_id: u64, status: u16, warnings: u16, info in bytes(60),
        code: u16, message in word(),
    ) {
        let status = Status(status);
        let ok = OkPacket { affected_rows, last_insert_id, status, warnings, info: &info };
        let payload = written(|out| write_ok(out, 0, &ok));
        prop_assert_eq!(&OkPacket::parse(&payload).unwrap(), &ok);
        prop_assert_eq!(Reply::parse(&payload, Capabilities(u64::MAX)), Ok(Reply::Ok));
        no_prefix(&payload, payload.len() - info.len(), OkPacket::parse);

        let ended = written(|out| write_ok(out, 0xFE, &ok));
        prop_assert!(Reply::is_terminator(&ended, true));
        prop_assert_eq!(Reply::terminator_status(&ended, true), Ok(status));
        let eof = written(|out| write_eof(out, warnings, status));
        prop_assert!(Reply::is_terminator(&eof, false));
        prop_assert_eq!(Reply::terminator_status(&eof, false), Ok(status));
        no_prefix(&eof, eof.len(), |cut| Reply::terminator_status(cut, false));

        let payload = written(|out| write_err(out, code, *b"42000", &message));
        let err = ErrPacket { code, sqlstate: *b"42000", message: message.as_bytes() };
        prop_assert_eq!(ErrPacket::parse(&payload), Ok(err));
        prop_assert_eq!(Reply::parse(&payload, Capabilities(u64::MAX)), Ok(Reply::Err));
        // Five bytes of SQLSTATE at least, once there is a `#`.
        no_prefix(&payload, 3, ErrPacket::parse);
    }

    #[test]
    fn prepared(
        statement_id: u32, columns: u16, parameters: u16, warnings: u16,
        defined in proptest::option::of(any::<bool>()),
    ) {
        let flag = if defined.is_some() { Capabilities::OPTIONAL_RESULTSET_METADATA } else { 0 };
        let parse = |payload: &[u8]| PrepareOk::parse(payload, Capabilities(flag));
        let ok = PrepareOk { statement_id, columns, parameters, warnings, defined };
        let payload = written(|out| ok.write(out));
        prop_assert_eq!(parse(&payload), Ok(ok));
        no_prefix(&payload, payload.len(), parse);
    }

    #[test]
    fn counts_of_columns(count in 1..=65_535_u64, flag in 0..4_usize) {
        let flags = [
            0,
            Capabilities::MARIADB_EXTENDED_METADATA,
            Capabilities::MARIADB_CACHE_METADATA,
            Capabilities::OPTIONAL_RESULTSET_METADATA,
        ];
        let capabilities = Capabilities(flags[flag]);
        let parse = |payload: &[u8]| Reply::parse(payload, capabilities);
        let mut payload = written(|out| write_columns(out, count, capabilities));
        prop_assert_eq!(parse(&payload), Ok(Reply::Columns { count, defined: true }));
        no_prefix(&payload, payload.len(), parse);
        if capabilities.may_lack_definitions() {
            let last = payload.len() - 1;
            payload[last] = 0;
            prop_assert_eq!(parse(&payload), Ok(Reply::Columns { count, defined: false }));
            payload[last] = 2;
            prop_assert!(parse(&payload).is_err());
        }
    }

    #[test]
    fn text_rows(cells in proptest::collection::vec(proptest::option::of(bytes(400)), 0..12)) {
        let payload = written(|out| cells.iter().for_each(|cell| match cell {
            Some(value) => write_lenenc_bytes(out, value),
            None => out.push(0xFB),
        }));
        let read = |payload: &[u8]| -> Result<Vec<Option<Vec<u8>>>, CodecError> {
            let mut row = TextRow::new(payload);
            let cells = cells.iter().map(|_| Ok(row.next_cell()?.value.map(<[u8]>::to_vec)));
            let read = cells.collect::<Result<_, _>>()?;
            if row.is_done() { Ok(read) } else { Err(CodecError::Trailing) }
        };
        prop_assert_eq!(&read(&payload).unwrap(), &cells);
        no_prefix(&payload, payload.len(), read);
    }

    #[test]
    fn binary_rows(cells in proptest::collection::vec((0..4_usize, any::<bool>(), bytes(250)), 0..20)) {
        // One type of each form; the value is the bytes as they lie in the row.
        let types = [ColumnType::LONG, ColumnType::LONGLONG, ColumnType::DATETIME, ColumnType::VAR_STRING];
        let raw = |(form, _, value): &(usize, bool, Vec<u8>)| match form {
            0 => vec![1, 2, 3, 4],
            1 => vec![9; 8],
            2 => vec![4, 0xEA, 7, 11, 24],
            _ => written(|out| write_lenenc_bytes(out, value)),
        };
        let payload = written(|out| {
            write_binary_row_head(out, cells.len(), |at| cells[at].1);
            cells.iter().filter(|cell| !cell.1).for_each(|cell| out.extend_from_slice(&raw(cell)));
        });
        let read = |payload: &[u8]| -> Result<Vec<Option<Vec<u8>>>, CodecError> {
            let mut row = BinaryRow::new(payload, cells.len())?;
            let mut read = Vec::new();
            for cell in &cells {
                let taken = row.next_cell(types[cell.0])?;
                read.push(taken.value.map(|_| taken.raw.to_vec()));
            }
            if row.is_done() { Ok(read) } else { Err(CodecError::Trailing) }
        };
        let expected: Vec<_> = cells.iter().map(|cell| (!cell.1).then(|| raw(cell))).collect();
        prop_assert_eq!(&read(&payload).unwrap(), &expected);
        no_prefix(&payload, payload.len(), read);
    }

    #[test]
    fn arbitrary_payloads_never_panic(payload in bytes(600), columns in 0..40_usize, flags: u64) {
        let _ = Handshake::parse(&payload);
        let _ = SslRequest::parse(&payload);
        let _ = LoginRequest::parse(&payload);
        let _ = ChangeUser::parse(&payload, Capabilities(flags));
        let _ = AuthSwitch::parse(&payload);
        let capabilities = Capabilities(flags);
        let _ = ColumnDefinition::parse(&payload, capabilities);
        let _ = (OkPacket::parse(&payload), ErrPacket::parse(&payload));
        let _ = (Reply::parse(&payload, capabilities), ExecuteHead::parse(&payload));
        let _ = PrepareOk::parse(&payload, capabilities);
        for deprecate_eof in [false, true] {
            let _ = Reply::is_terminator(&payload, deprecate_eof);
            let _ = Reply::terminator_status(&payload, deprecate_eof);
        }
        let mut row = TextRow::new(&payload);
        while row.next_cell().is_ok() {}
        if let Ok(mut row) = BinaryRow::new(&payload, columns) {
            for at in 0..columns {
                let _ = row.next_cell(ColumnType(payload.get(at).copied().unwrap_or(0)));
            }
        }
    }
}

/// COM_CHANGE_USER comes in forms that grow with the capabilities; each cut inside a field is refused.
#[test]
fn changes_of_user() {
    let payload = b"bot\0\x02\x11\x22shop\0\x2D\0mysql_native_password\0\x06\x02os\x02bs";
    let all = Capabilities(Capabilities::PLUGIN_AUTH | Capabilities::CONNECT_ATTRS);
    let change = ChangeUser::parse(payload, all).unwrap();
    let expected = ChangeUser {
        user: "bot",
        auth_response: &[0x11, 0x22],
        schema: Some("shop"),
        collation: Some(45),
        plugin: Some(NATIVE_PASSWORD),
        attributes: vec![("os", "bs")],
    };
    assert_eq!(change, expected);
    let ends_of_fields = [12, 14, 36];
    for end in 0..payload.len() {
        let parsed = ChangeUser::parse(&payload[..end], all);
        assert_eq!(parsed.is_ok(), ends_of_fields.contains(&end), "{end}: {parsed:?}");
    }
}

/// COM_STMT_EXECUTE's head is nine bytes; the parameters pass through.
#[test]
fn executions() {
    let payload = [7, 0, 0, 0, 1, 1, 0, 0, 0, 0xAA];
    let head = ExecuteHead::parse(&payload).unwrap();
    assert_eq!((head.statement_id, head.flags, head.iterations), (7, 1, 1));
    assert_eq!(head.parameters, [0xAA]);
    no_prefix(&payload, 9, ExecuteHead::parse);
}
