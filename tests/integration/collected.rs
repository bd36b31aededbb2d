//! Long statements and rows share a worker's room: those that find none are told so, the others go on, and everything is
//! given back, however a session ends.

use crate::stand::{Flavour, Stand, on_both, wait_for};
use crate::wire::{Packet, Wire, text};

on_both!(long_statements_share_a_workers_room, a_long_row_needs_room_only_where_it_is_collected);

const MIB: usize = 1 << 20;

/// A statement of 15 MiB; and where it is cut.
fn long() -> (Vec<u8>, usize) {
    let sql = format!("SELECT LENGTH('{}')", "x".repeat(15 * MIB));
    let mut out = Vec::new();
    rowgate::codec::write_frame(&mut out, 0, |out| {
        out.push(3);
        out.extend_from_slice(sql.as_bytes());
    });
    (out, MIB)
}

fn stand(flavour: Flavour) -> Stand {
    let stand = Stand::on_with(flavour, |options| {
        options.workers = 1;
        "max_collected_bytes = 41943040".clone_into(&mut options.server);
    });
    stand.database.sql("SET GLOBAL max_allowed_packet = 67108864").unwrap();
    stand
}

fn taken(stand: &Stand) -> f64 {
    stand.gateway.metric("rowgate_collected_bytes").unwrap().unwrap()
}

fn takes(stand: &Stand, mib: f64) {
    wait_for(&format!("{mib} MiB taken"), || {
        ((taken(stand) / 1_048_576.0).round() - mib).abs().lt(&0.5).then_some(())
    });
}

fn is_busy(packet: Option<&Packet>) -> bool {
    packet.is_some_and(|(_, error)| error.starts_with(b"\xff\x11\x04#HY000Rowgate [RG-BUSY]"))
}

fn long_statements_share_a_workers_room(flavour: Flavour) {
    let stand = stand(flavour);
    let (all, cut) = long();
    let log_in = |user: &str, group: &str| {
        Wire::login(stand.gateway.port, user, &stand.token(user, group), 0)
    };
    let mut sessions = [log_in("bot", "agents"), log_in("backup", "dumpers")];
    // Room for both, as soon as they have said how long they are.
    for session in &mut sessions {
        session.send(&all[..cut]);
    }
    takes(&stand, 30.0);
    let mut third = log_in("other", "agents");
    for command in [3, 0x16] {
        let mut refused = all.clone();
        refused[4] = command;
        third.send(&refused);
        assert!(is_busy(Some(&third.packet())), "there is no room for a third");
        assert!(text(&third.query("SELECT 40 + 2")).contains("42"), "it goes on");
    }
    // In several packets, and of a kind that has no answer.
    let (id, _) = third.prepare("SELECT LENGTH(?)");
    third.command(0x18, &[&id.to_le_bytes()[..], &[0, 0], &vec![b'x'; 15 * MIB]].concat());
    third.command(0x17, &[&id.to_le_bytes()[..], &[0, 1, 0, 0, 0, 0, 1, 0xFD, 0]].concat());
    let answer = text(&third.answer());
    assert!(answer.contains("RG-LIMIT"), "{answer}");
    takes(&stand, 30.0);
    for session in &mut sessions {
        session.send(&all[cut..]);
        assert!(text(&session.answer()).contains("15728640"));
    }
    takes(&stand, 0.0);
    third.send(&all);
    assert!(text(&third.answer()).contains("15728640"), "there is room again");
    // A session that ends in the midst of one; one that is refused; one that is killed.
    let [mut gone, killed] = sessions;
    gone.send(&all[..cut]);
    takes(&stand, 15.0);
    drop(gone);
    takes(&stand, 0.0);
    let mut denied = all.clone();
    denied[5..15].copy_from_slice(b"SELEKT (x'");
    third.send(&denied);
    assert!(text(&third.answer()).contains("\\xff"));
    takes(&stand, 0.0);
    let mut killed = killed;
    killed.send(&all[..cut]);
    takes(&stand, 15.0);
    let mut killer =
        Wire::login(stand.gateway.port, "backup", &stand.token("backup", "dumpers"), 0);
    killer.query(&format!("KILL {}", killed.id));
    takes(&stand, 0.0);
}

fn a_long_row_needs_room_only_where_it_is_collected(flavour: Flavour) {
    let stand = stand(flavour);
    let (all, cut) = long();
    let log_in = |user: &str, group: &str| {
        Wire::login(stand.gateway.port, user, &stand.token(user, group), 0)
    };
    let mut fill = [log_in("backup", "dumpers"), log_in("backup", "dumpers")];
    let row = |column: &str| {
        format!("SELECT {column}, REPEAT('x', 15728640) FROM customers WHERE id = 7")
    };
    let mut agent = log_in("bot", "agents");
    assert!(text(&agent.query(&row("ssn"))).contains("[redacted]"));
    takes(&stand, 0.0);
    for session in &mut fill {
        session.send(&all[..cut]);
    }
    takes(&stand, 30.0);
    // One that is not masked passes as it comes.
    assert_eq!(agent.query(&row("id")).len(), 6);
    agent.command(3, row("ssn").as_bytes());
    let answer: Vec<Packet> = std::iter::from_fn(|| agent.try_packet()).collect();
    assert!(is_busy(answer.last()), "{}", text(&answer[..answer.len().min(5)]));
    assert!(!text(&answer).contains("xxxx"));
    takes(&stand, 30.0);
    drop(fill);
    takes(&stand, 0.0);
    assert!(text(&log_in("bot", "agents").query(&row("ssn"))).contains("[redacted]"));
}
