//! What clients are offered is what the target has, by what it says when it greets: not by the version that it claims.
//! Between gateway and database stands a proxy that takes flags out of the greeting.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rowgate::codec::{Capabilities, Header};
use xtask::gateway::{Gateway, Options};

use crate::stand::{Database, Flavour, binary, on_both, wait_for};
use crate::wire::{Wire, text};

on_both!(
    a_target_that_has_less_than_its_version_is_offered_as_it_is,
    a_target_that_comes_to_have_less_is_seen_anew
);

/// What the proxy takes out.
const TAKEN: u64 = Capabilities::DEPRECATE_EOF
    | Capabilities::OPTIONAL_RESULTSET_METADATA
    | Capabilities::QUERY_ATTRIBUTES
    | Capabilities::EXTENDED;

/// A proxy in front of `port`, which takes [`TAKEN`] out while `takes` is set.
fn proxy(port: u16, takes: &Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let own = listener.local_addr().unwrap().port();
    let takes = Arc::clone(takes);
    thread::spawn(move || {
        for client in listener.incoming() {
            let takes = takes.load(Ordering::Relaxed);
            thread::spawn(move || relay(client.ok()?, port, takes));
        }
    });
    own
}

fn relay(mut client: TcpStream, port: u16, takes: bool) -> Option<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    let mut header = [0; 4];
    server.read_exact(&mut header).ok()?;
    let mut greeting = vec![0; Header::parse(&header)?.len];
    server.read_exact(&mut greeting).ok()?;
    if takes {
        // Version, id, eight bytes of the challenge and a zero; two bytes of flags; collation and status; two more; the
        // challenge's length, six bytes of filler; MariaDB's.
        let at = greeting.iter().position(|byte| *byte == 0)? + 1 + 4 + 8 + 1;
        for (place, shift) in [(at, 0), (at + 5, 16), (at + 14, 32), (at + 16, 48)] {
            let bits = u16::try_from(TAKEN >> shift & 0xFFFF).ok()?.to_le_bytes();
            greeting[place] &= !bits[0];
            greeting[place + 1] &= !bits[1];
        }
    }
    client.write_all(&header).ok()?;
    client.write_all(&greeting).ok()?;
    let (mut from, mut to) = (client.try_clone().ok()?, server.try_clone().ok()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(std::net::Shutdown::Both);
    Some(())
}

fn stand(flavour: Flavour, takes: &Arc<AtomicBool>) -> (tempfile::TempDir, Database, Gateway) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::start(flavour, folder.path(), &[]);
    let options = Options::new(proxy(database.port(), takes));
    let gateway = Gateway::start(&binary(), &folder.path().join("gateway"), &options).unwrap();
    (folder, database, gateway)
}

/// All that a client could ask for.
const EVERYTHING: u64 = Capabilities::SHAPING | Capabilities::MARIADB_STMT_BULK_OPERATIONS;

/// What there is of it on this database, with nothing taken out.
fn all(flavour: Flavour) -> u64 {
    match flavour {
        Flavour::MariaDb => {
            EVERYTHING
                & !(Capabilities::OPTIONAL_RESULTSET_METADATA | Capabilities::QUERY_ATTRIBUTES)
        }
        Flavour::MySql => EVERYTHING & !Capabilities::EXTENDED,
    }
}

/// The flags of the greeting, of all that could be asked for.
fn offered(gateway: &Gateway) -> u64 {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.port)).unwrap();
    let mut header = [0; 4];
    stream.read_exact(&mut header).unwrap();
    let mut greeting = vec![0; Header::parse(&header).unwrap().len];
    stream.read_exact(&mut greeting).unwrap();
    rowgate::codec::Handshake::parse(&greeting).unwrap().capabilities.0 & EVERYTHING
}

fn a_target_that_has_less_than_its_version_is_offered_as_it_is(flavour: Flavour) {
    for takes in [true, false] {
        let (_folder, _database, gateway) = stand(flavour, &Arc::new(AtomicBool::new(takes)));
        let token = gateway.token("bot", "agents").unwrap();
        assert_eq!(offered(&gateway), if takes { all(flavour) & !TAKEN } else { all(flavour) });
        // One that takes all that it is offered.
        let mut wire = Wire::login(
            gateway.port,
            "bot",
            &token,
            offered(&gateway) & !Capabilities::QUERY_ATTRIBUTES,
        );
        let answer = text(&wire.query("SELECT id, ssn FROM customers WHERE id = 7"));
        assert!(answer.contains("[redacted]"), "{answer}");
    }
}

fn a_target_that_comes_to_have_less_is_seen_anew(flavour: Flavour) {
    let takes = Arc::new(AtomicBool::new(false));
    let (_folder, _database, gateway) = stand(flavour, &takes);
    let token = gateway.token("bot", "agents").unwrap();
    let more = Capabilities::DEPRECATE_EOF;
    let mut before = Wire::login(gateway.port, "bot", &token, more);
    takes.store(true, Ordering::Relaxed);
    let refused = text(&before.query("SELECT 40 + 2"));
    assert!(refused.contains("RG-UPSTREAM") && refused.contains("capability"), "{refused}");
    // Those that come have what there is. (The gateway's own connection is as old as it may be.)
    wait_for("what there is", || (offered(&gateway) == all(flavour) & !TAKEN).then_some(()));
    let mut after = Wire::login(gateway.port, "bot", &token, 0);
    assert!(text(&after.query("SELECT 40 + 2")).contains("42"));
}
