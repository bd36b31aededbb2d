//! The pair of client and database under faults at every byte of a conversation (login, query, prepared statement, error), in
//! each direction: real gateway, real database, a relay or the client itself doing the harm. Afterwards nothing hangs, the
//! client got a part of the right answer and at the most one documented error, nobody inherits what was half done, and no
//! descriptor is left.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use xtask::gateway::Options;
use xtask::mariadb::{SERVICE_USER, free_port};

use crate::cutting::{Act, By, Cutter, Ending, Fault, Heard, Say, converse};
use crate::stand::{Database, Flavour, binary, wait_for};
use crate::wire::{Packet, Wire, text};

/// Targets side by side, each with its own relay and its own pools: as many conversations at once.
const LANES: usize = 6;

/// The first row says whether somebody else's session was inherited.
const CONVERSATION: [Say; 7] = [
    Say::Query("SELECT @mark, CONNECTION_ID() > 0"),
    Say::Query("SET @mark = 'left behind'"),
    Say::Query("SELECT id, name, ssn FROM customers WHERE id < 3"),
    Say::Prepare("SELECT tier, ssn FROM customers WHERE id = ?"),
    Say::Execute(2),
    Say::Query("INSERT INTO orders VALUES (1, 1, '2026-01-01', 'new', 5)"),
    Say::Close,
];

/// What a client may be told when the database's connection fails: lost, or down (docs/agents.md).
const DOCUMENTED: [u16; 2] = [1158, 1429];

struct World {
    gateway: xtask::gateway::Gateway,
    lanes: Vec<Lane>,
    token: String,
    conversation: Vec<Say>,
    /// What a client hears when nothing fails.
    right: Vec<Packet>,
    _database: Database,
    _folder: tempfile::TempDir,
}

struct Lane {
    /// Where the gateway listens for it.
    port: u16,
    cutter: Cutter,
}

impl World {
    fn start(driver: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::start(Flavour::MariaDb, folder.path(), &[]);
        let cutters: Vec<Cutter> = (0..LANES).map(|_| Cutter::to(database.port())).collect();
        let mut options = Options::new(cutters[0].port);
        driver.clone_into(&mut options.driver);
        // One pool: with two, a connection that the one kept could be lent before the fault's next one is made.
        options.workers = 1;
        // The schema is looked at once: no other connections than those of sessions.
        options.catalog_refresh_s = 3_600;
        "async".clone_into(&mut options.durability);
        "failed_logins_per_minute = 1000000".clone_into(&mut options.server);
        let ports: Vec<u16> = (1..LANES).map(|_| free_port().unwrap()).collect();
        for (at, (port, cutter)) in ports.iter().zip(&cutters[1..]).enumerate() {
            options.more.push_str(&format!(
                "[[targets]]\nname = \"shop{at}\"\nlisten = \"127.0.0.1:{port}\"\naddress = \"127.0.0.1:{}\"\n\
                 user = \"{SERVICE_USER}\"\npassword = \"env:ROWGATE_DEMO_PASSWORD\"\ntls = \"off\"\n\
                 catalog_refresh_s = 3600\n",
                cutter.port
            ));
        }
        let dir = folder.path().join("gateway");
        let gateway = xtask::gateway::Gateway::start(&binary(), &dir, &options).unwrap();
        let ports = std::iter::once(gateway.port).chain(ports);
        let lanes = ports.zip(cutters).map(|(port, cutter)| Lane { port, cutter }).collect();
        let token = gateway.token("bot", "agents").unwrap();
        let conversation = [&CONVERSATION[..], &[Say::Quit]].concat();
        let mut world = Self {
            gateway,
            lanes,
            token,
            conversation,
            right: Vec::new(),
            _database: database,
            _folder: folder,
        };
        world.right = world.hold(0, None).packets;
        let said = text(&world.right);
        assert!(said.contains("Ada Abara") || said.contains("Ben Abara"), "{said}");
        assert!(!said.contains(&xtask::shop::customer(2).ssn), "{said}");
        world
    }

    fn hold(&self, lane: usize, fault: Option<Fault>) -> Heard {
        converse(self.lanes[lane].port, &self.token, &self.conversation, fault, false)
    }

    /// The whole conversation, undisturbed, word by word.
    fn serves(&self, lane: usize, after: &str) {
        let heard = self.hold(lane, None);
        assert!(
            heard.ending == Ending::Whole && heard.packets == self.right,
            "after {after}: {:?} {}\n{}",
            heard.ending,
            text(&heard.packets),
            self.gateway.log()
        );
    }

    /// The right answer; where the first statement got no connection to the database, with that error in its place: the
    /// next one may get one.
    fn expected(&self, heard: &Heard) -> Vec<Packet> {
        let mut right = self.right.clone();
        let down = |(seq, payload): &&Packet| {
            *seq == 1 && payload.starts_with(&[0xFF, 0x95, 0x05]) // 1429
        };
        if let Some(down) = heard.packets.get(1).filter(down) {
            assert!(String::from_utf8_lossy(&down.1).contains("RG-UPSTREAM"));
            let second = right.iter().skip(2).position(|(seq, _)| *seq == 1).unwrap() + 2;
            right.splice(1..second, [down.clone()]);
        }
        right
    }

    /// What was heard is a part of the right answer, and an error at the most.
    fn judge(&self, heard: &Heard, what: &str) {
        let told = || format!("{what}: {:?} {}", heard.ending, text(&heard.packets));
        assert_ne!(heard.ending, Ending::Hung, "{}", told());
        let right = self.expected(heard);
        let same = heard.packets.iter().zip(&right).take_while(|(a, b)| a == b).count();
        let mut rest = heard.packets[same..].iter();
        if let Some((seq, payload)) = rest.next() {
            // Between two commands it is nobody's answer.
            let due = right.get(same).map_or(0, |(seq, _)| *seq);
            assert!(*seq == due || *seq == 0 && due == 1, "out of its turn: {}", told());
            assert_eq!(payload[0], 0xFF, "another answer: {}", told());
            let code = u16::from_le_bytes([payload[1], payload[2]]);
            assert!(DOCUMENTED.contains(&code), "{}", told());
            assert!(String::from_utf8_lossy(payload).contains("RG-UPSTREAM"), "{}", told());
            assert!(heard.part.is_empty(), "something after the error: {}", told());
        } else if !heard.part.is_empty() && heard.ending == Ending::Closed {
            // Half a packet, then the end: what an error would have been taken for the rest of.
            let mut whole = Vec::new();
            let (seq, payload) = &right[same];
            rowgate::codec::write_frame(&mut whole, *seq, |out| out.extend_from_slice(payload));
            // The statement's id is only made 0 in whole packets.
            let id = payload.len() == 12 && payload[0] == 0;
            assert!(id || whole.starts_with(&heard.part), "{} then {:?}", told(), heard.part);
        }
        assert!(rest.next().is_none(), "more after an error: {}", told());
    }

    /// Runs `one` for every offset, on all lanes at once.
    fn sweep(offsets: usize, one: impl Fn(usize, usize) + Sync) {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            let lanes: Vec<_> = (0..LANES)
                .map(|lane| {
                    let (next, one) = (&next, &one);
                    scope.spawn(move || {
                        loop {
                            let at = next.fetch_add(1, Ordering::Relaxed);
                            if at >= offsets {
                                return;
                            }
                            one(lane, at);
                        }
                    })
                })
                .collect();
            for lane in lanes {
                if let Err(panic) = lane.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        });
    }

    fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.gateway.pid());
        std::fs::read_dir(folder).unwrap().count()
    }

    /// All sessions are over, and what they held is given back.
    fn is_as_before(&self, descriptors: usize) {
        wait_for("the end of all sessions", || {
            let open = self.gateway.metric("rowgate_sessions").unwrap();
            open.is_some_and(|open| open < 0.5).then_some(())
        });
        // The pools keep what is good: up to one connection a lane and worker, and one in the making.
        let most = descriptors + 3 * LANES;
        wait_for("the descriptors to go", || (self.descriptors() <= most).then_some(()));
    }
}

/// Faults of the database's connection, from its first byte to after its reset for the next session.
fn upstream(driver: &str, act: Act, every: usize) {
    let world = World::start(driver);
    let cutter = &world.lanes[0].cutter;
    cutter.arm(None);
    world.serves(0, "nothing");
    // The reset for the next session ends with the answer to INIT_DB.
    thread::sleep(std::time::Duration::from_millis(200));
    let passed = cutter.passed();
    assert!(passed[0] > 300 && passed[1] > 300, "{passed:?}");
    (0..LANES).for_each(|lane| world.serves(lane, "nothing"));
    let descriptors = world.descriptors();
    for (by, total) in [(By::Gateway, passed[0]), (By::Peer, passed[1])] {
        World::sweep(total.div_ceil(every), |lane, at| {
            let fault = Fault { by, at: at * every, act };
            let what = format!("{fault:?} upstream");
            let cutter = &world.lanes[lane].cutter;
            cutter.arm(Some(fault));
            let heard = world.hold(lane, None);
            world.judge(&heard, &what);
            if act == Act::Delay {
                assert_eq!(heard.packets, world.right, "{what}");
            }
            world.serves(lane, &what);
            // The reset for the next session goes on behind the client's back.
            wait_for(&what, || cutter.happened().then_some(()));
        });
    }
    world.is_as_before(descriptors);
}

#[test]
fn the_database_is_slow_at_every_byte() {
    upstream("auto", Act::Delay, 1);
}

#[test]
fn the_database_is_reset_at_every_byte() {
    upstream("auto", Act::Reset, 1);
}

#[test]
fn the_database_is_cut_short_at_every_byte() {
    upstream("auto", Act::CutShort, 1);
}

#[test]
fn the_database_is_cut_short_at_many_bytes_on_epoll() {
    upstream("epoll", Act::CutShort, 5);
}

#[test]
fn the_client_is_reset_or_cut_short_at_every_byte() {
    let world = World::start("auto");
    (0..LANES).for_each(|lane| world.serves(lane, "nothing"));
    let whole = world.hold(0, None);
    let descriptors = world.descriptors();
    for act in [Act::Reset, Act::CutShort] {
        for (by, total) in [(By::Peer, whole.sent), (By::Gateway, whole.received)] {
            World::sweep(total, |lane, at| {
                let fault = Fault { by, at, act };
                let what = format!("{fault:?} of the client");
                let heard = world.hold(lane, Some(fault));
                assert_eq!(heard.ending, Ending::Own, "{what}");
                world.judge(&heard, &what);
                if at % 4 == 0 {
                    world.serves(lane, &what);
                }
            });
            world.is_as_before(descriptors);
        }
    }
    (0..LANES).for_each(|lane| world.serves(lane, "all of it"));
}

/// An answer that comes when its client is gone is nobody's: least of all the next one's, whose reset it could seem to
/// answer.
#[test]
fn the_client_leaves_before_the_answer() {
    let world = World::start("auto");
    let port = world.lanes[0].port;
    let at = converse(port, &world.token, &[Say::Quit], None, false).received;
    let slow = [Say::Query("SET @mark = 1"), Say::Query("DO SLEEP(0.1)")];
    for act in [Act::Reset, Act::CutShort] {
        for answer in [0, 11] {
            let fault = Fault { by: By::Gateway, at: at + answer, act };
            let heard = converse(port, &world.token, &slow, Some(fault), false);
            assert_eq!(heard.ending, Ending::Own);
            (0..4).for_each(|_| world.serves(0, &format!("{fault:?}")));
        }
    }
}

#[test]
fn a_client_that_sends_byte_by_byte() {
    let world = World::start("auto");
    let heard = converse(world.lanes[0].port, &world.token, &world.conversation, None, true);
    assert_eq!((heard.ending, heard.packets), (Ending::Whole, world.right.clone()));
}

/// A command that has no answer, and the next one in the same segment.
#[test]
fn a_command_behind_one_that_is_skipped() {
    let world = World::start("auto");
    let mut wire = Wire::login(world.lanes[0].port, "bot", &world.token, 0);
    let mut both = Vec::new();
    for payload in [&[0x19, 99, 0, 0, 0][..], &[0x0E]] {
        rowgate::codec::write_frame(&mut both, 0, |out| out.extend_from_slice(payload));
    }
    wire.send(&both);
    assert_eq!(wire.try_packet().expect("the answer to COM_PING").1[0], 0);
}
