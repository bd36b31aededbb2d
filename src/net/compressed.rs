//! One connection's compressed packets ↔ the stream of packets inside them. No I/O: [`super::io::Leg`] moves the bytes,
//! [`super::packer`] compresses.
//!
//! Compressed packets are counted: a command starts at 0, its answer goes on after it. A client may send its next
//! commands without waiting; those stay closed until it is their turn, or the count of the answer under way was lost.
//! The sequence ids of the packets inside mean nothing to either peer then, and clients and servers don't keep them; they
//! are put right here, so that nobody above needs to know.

use super::packer::{Damaged, Packer};
use crate::codec::{COMPRESSED_HEADER_LEN, CompressedHeader, Compression, HEADER_LEN, Header};

/// Shorter ones are stored as they are, as the servers do.
const WORTH_IT: usize = 50;

/// The longest part of the stream in one compressed packet: what a peer must hold to open it. (16 MiB are allowed.)
const PART: usize = 1 << 20;

/// Whom we are to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// We answer its commands.
    Server,
    /// We send commands.
    Client,
}

/// The state of one connection.
pub(super) struct Compressed {
    by: Compression,
    role: Role,
    /// Compressed packets that have arrived, opened up to `opened`; empty, without memory, once all are.
    incoming: Vec<u8>,
    opened: usize,
    /// Compressed packets to send, where no TLS comes after.
    pub(super) outgoing: Vec<u8>,
    /// The count of the next one, in either direction.
    seq: u8,
    /// The last one was the peer's.
    hearing: bool,
    /// The peer's next command may be opened.
    turn: bool,
    /// Something was said since the peer's command began: what it sends now is no other one.
    answered: bool,
    /// The sequence id of the next packet inside, in either direction.
    inner: u8,
    /// Where the packets inside begin, of what was opened and of what was sent.
    heard: Packets,
    said: Packets,
}

impl Compressed {
    /// From here on. `received` came after what ended the login.
    pub(super) fn new(by: Compression, role: Role, received: &[u8]) -> Self {
        Self {
            by,
            role,
            incoming: received.to_vec(),
            opened: 0,
            outgoing: Vec::new(),
            seq: 0,
            hearing: false,
            turn: true,
            answered: false,
            inner: 0,
            heard: Packets::default(),
            said: Packets::default(),
        }
    }

    /// The command before is answered: the next one may be opened.
    pub(super) fn next_turn(&mut self) {
        self.turn = true;
    }

    /// What has arrived and is not opened.
    fn closed(&self) -> &[u8] {
        self.incoming.get(self.opened..).unwrap_or_default()
    }

    /// How much that is.
    pub(super) fn len(&self) -> usize {
        self.incoming.len() - self.opened
    }

    /// Takes it out, to be extended by a read; and how long it must get for the packet at its front, as far as is known.
    pub(super) fn take(&mut self) -> (Vec<u8>, usize) {
        let wanted = CompressedHeader::parse(self.closed());
        self.incoming.drain(..self.opened);
        self.opened = 0;
        let wanted = wanted.map_or(COMPRESSED_HEADER_LEN, CompressedHeader::total);
        (std::mem::take(&mut self.incoming), wanted)
    }

    /// Where more of it is put.
    pub(super) fn incoming(&mut self) -> &mut Vec<u8> {
        &mut self.incoming
    }

    /// Gives the memory back if all of it is opened.
    pub(super) fn settle(&mut self) -> Option<Vec<u8>> {
        (self.len() == 0 && self.incoming.capacity() > 0).then(|| self.take().0)
    }

    /// Opens the packet at the front of what has arrived, if it is whole and has its turn; whether it did. Its part of the
    /// stream is appended to `plain`.
    pub(super) fn open(
        &mut self,
        plain: &mut Vec<u8>,
        packer: &mut Packer,
    ) -> Result<bool, Damaged> {
        let Some(header) = CompressedHeader::parse(self.closed()) else { return Ok(false) };
        if self.is_held(header.seq)? {
            return Ok(false);
        }
        let data = self.closed().get(COMPRESSED_HEADER_LEN..header.total());
        let Some(data) = data else { return Ok(false) };
        let at = plain.len();
        match header.uncompressed {
            0 => plain.extend_from_slice(data),
            len => packer.unpack(self.by, data, len, plain)?,
        }
        if header.seq == 0 && !self.hearing || header.seq != self.seq {
            (self.turn, self.answered) = (false, false);
        }
        (self.seq, self.hearing) = (header.seq.wrapping_add(1), true);
        self.opened += header.total();
        self.put_right(plain.get_mut(at..).unwrap_or_default());
        Ok(true)
    }

    /// Gives the packets inside what was opened the sequence ids that they would have outside.
    fn put_right(&mut self, opened: &mut [u8]) {
        let mut from = 0;
        while let Some((at, continues)) = self.heard.next_seq(opened, &mut from) {
            let Some(seq) = opened.get_mut(at) else { return };
            // Commands begin at 0 here as well; what comes after an answer has begun is a file, which may wrap.
            let begins = self.role == Role::Server && *seq == 0 && !continues && !self.answered;
            *seq = if begins { 0 } else { self.inner };
            self.inner = seq.wrapping_add(1);
        }
    }

    /// Whether a packet of this count must wait. The database's counts are not looked at: it answers commands that are sent
    /// together one after the other, each from 1 on.
    fn is_held(&self, seq: u8) -> Result<bool, Damaged> {
        if self.role == Role::Client || (self.hearing && seq == self.seq) {
            return Ok(false);
        }
        match seq {
            0 => Ok(!self.turn),
            seq if seq == self.seq => Ok(false),
            _ => Err(Damaged),
        }
    }

    /// Appends `data` as compressed packets.
    pub(super) fn pack(&mut self, data: &[u8], out: &mut Vec<u8>, packer: &mut Packer) {
        let mut rest = data;
        self.answered = true;
        while !rest.is_empty() {
            let (len, begins) = match self.role {
                Role::Server => (rest.len(), false),
                // A server reads one command from a packet, and forgets what follows it.
                Role::Client => self.said.next_command(rest, (!self.hearing).then_some(self.inner)),
            };
            if begins {
                self.seq = 0;
            }
            let (part, later) = rest.split_at(len.clamp(1, PART).min(rest.len()));
            let mut from = 0;
            while let Some((at, _)) = self.said.next_seq(part, &mut from) {
                self.inner = part.get(at).map_or(0, |seq| seq.wrapping_add(1));
            }
            rest = later;
            self.pack_part(part, out, packer);
        }
    }

    fn pack_part(&mut self, part: &[u8], out: &mut Vec<u8>, packer: &mut Packer) {
        let at = out.len();
        out.extend_from_slice(&[0; COMPRESSED_HEADER_LEN]);
        let packs = part.len() >= WORTH_IT && packer.pack(self.by, part, out);
        if !packs {
            out.extend_from_slice(part);
        }
        let header = CompressedHeader {
            len: out.len() - at - COMPRESSED_HEADER_LEN,
            seq: self.seq,
            uncompressed: if packs { part.len() } else { 0 },
        };
        if let Some(space) = out.get_mut(at..at + COMPRESSED_HEADER_LEN) {
            space.copy_from_slice(&header.bytes());
        }
        (self.seq, self.hearing) = (self.seq.wrapping_add(1), false);
    }
}

/// Where packets begin in one direction of the stream, however it is cut.
#[derive(Default)]
struct Packets {
    /// Bytes of the packet under way that are still to come.
    left: usize,
    /// The part of the next header that has passed.
    header: [u8; HEADER_LEN],
    passed: usize,
    /// The payload of the last packet goes on in the next.
    continues: bool,
}

impl Packets {
    /// Goes on through `bytes` to the next sequence id: where it is, and whether its packet goes on with the one before.
    fn next_seq(&mut self, bytes: &[u8], from: &mut usize) -> Option<(usize, bool)> {
        loop {
            let skipped = self.left.min(bytes.len() - *from);
            self.left -= skipped;
            *from += skipped;
            let byte = bytes.get(*from)?;
            *self.header.get_mut(self.passed)? = *byte;
            self.passed += 1;
            *from += 1;
            if self.passed == HEADER_LEN {
                let header = Header::parse(&self.header)?;
                (self.left, self.passed) = (header.len, 0);
                let goes_on = std::mem::replace(&mut self.continues, header.continues());
                return Some((*from - 1, goes_on));
            }
        }
    }

    /// How far the stream may go before another command begins, and whether one begins here: a packet of sequence id 0, unless
    /// that is what follows on the last one sent (`next`). (A command's own header comes whole: the session has looked at
    /// it.)
    fn next_command(&self, rest: &[u8], next: Option<u8>) -> (usize, bool) {
        let mut begins = false;
        let mut next = next;
        let mut at = self.left;
        let mut passed = self.passed;
        loop {
            let mut header = self.header;
            let come = rest.get(at..).unwrap_or_default();
            for (place, byte) in header.iter_mut().skip(passed).zip(come) {
                *place = *byte;
            }
            if passed + come.len() < HEADER_LEN {
                return (rest.len(), begins);
            }
            let total = Header::parse(&header).map_or(HEADER_LEN, Header::total);
            let goes_on = next == Some(header[3]);
            next = Some(header[3].wrapping_add(1));
            if header[3] == 0 && passed == 0 && !goes_on {
                if at > 0 {
                    return (at, begins);
                }
                begins = true;
            }
            at += total - passed;
            passed = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::{MAX_PAYLOAD, write_packet};

    const BOTH: [Compression; 2] = [Compression::Zlib, Compression::Zstd];

    fn as_server(by: Compression) -> Compressed {
        Compressed::new(by, Role::Server, &[])
    }

    fn as_client(by: Compression) -> Compressed {
        Compressed::new(by, Role::Client, &[])
    }

    /// Opens all that may be opened of what has arrived so far.
    fn open(side: &mut Compressed, bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), Damaged> {
        side.incoming().extend_from_slice(bytes);
        while side.open(plain, &mut Packer::default())? {}
        Ok(())
    }

    fn packed(side: &mut Compressed, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        side.pack(data, &mut out, &mut Packer::default());
        out
    }

    /// The counts of the compressed packets.
    fn counts(bytes: &[u8]) -> Vec<u8> {
        let (mut counts, mut rest) = (Vec::new(), bytes);
        while let Some(header) = CompressedHeader::parse(rest) {
            counts.push(header.seq);
            rest = &rest[header.total()..];
        }
        assert!(rest.is_empty());
        counts
    }

    fn packet(seq: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_packet(&mut out, seq, payload);
        out
    }

    #[test]
    fn a_command_and_its_answer_are_counted_together() {
        for by in BOTH {
            let (mut client, mut server) = (as_client(by), as_server(by));
            let mut plain = Vec::new();
            for _ in 0..2 {
                let command = packed(&mut client, &packet(0, b"\x03SELECT 1"));
                assert_eq!(counts(&command), [0]);
                server.next_turn();
                open(&mut server, &command, &mut plain).unwrap();
                let answer = [
                    packed(&mut server, &packet(1, &[7; 4_000])),
                    packed(&mut server, &packet(2, b"and more")),
                ];
                assert_eq!(counts(&answer.concat()), [1, 2]);
                open(&mut client, &answer.concat(), &mut plain).unwrap();
                // A file that was asked for goes on counting.
                assert_eq!(counts(&packed(&mut client, &packet(3, b"a file"))), [3]);
            }
        }
    }

    #[test]
    fn the_next_command_waits_for_its_turn() {
        let mut server = as_server(Compression::Zlib);
        let [one, two] = [b"\x03ONE", b"\x03TWO"].map(|text| packet(0, text));
        let sent = [
            packed(&mut as_client(Compression::Zlib), &one),
            packed(&mut as_client(Compression::Zlib), &two),
        ];
        let mut plain = Vec::new();
        open(&mut server, &sent.concat(), &mut plain).unwrap();
        assert_eq!(plain, one);
        assert_eq!(counts(&packed(&mut server, &packet(1, b"answer"))), [1]);
        open(&mut server, &[], &mut plain).unwrap();
        assert_eq!(plain, one, "the answer may go on");
        server.next_turn();
        open(&mut server, &[], &mut plain).unwrap();
        assert_eq!(plain, [one, two].concat());
        assert_eq!(counts(&packed(&mut server, &packet(1, b"answer"))), [1]);
        assert!(server.settle().is_some() && server.settle().is_none());
    }

    #[test]
    fn each_command_to_a_database_has_a_packet_of_its_own() {
        let mut client = as_client(Compression::Zlib);
        let three = [packet(0, b"\x1f"), packet(0, &[3; 300]), packet(0, b"\x02shop")].concat();
        assert_eq!(counts(&packed(&mut client, &three)), [0, 0, 0]);
        // A long one goes on, wherever it is cut.
        let long = packet(0, &vec![3; 20 << 20]);
        for at in [4, 5, 1 << 20, MAX_PAYLOAD + 2, MAX_PAYLOAD + 4, MAX_PAYLOAD + 6] {
            let mut client = as_client(Compression::Zlib);
            let (first, second) = long.split_at(at);
            let all = [packed(&mut client, first), packed(&mut client, second)].concat();
            let expected: Vec<u8> =
                (0..counts(&all).len()).map(|n| u8::try_from(n).unwrap()).collect();
            assert_eq!(counts(&all), expected, "{at}");
            assert_eq!(counts(&packed(&mut client, &packet(0, b"\x0e"))), [0]);
        }
    }

    #[test]
    fn sequence_ids_inside_are_put_right() {
        let by = Compression::Zlib;
        let ids = |plain: &[u8]| {
            let (mut ids, mut rest) = (Vec::new(), plain);
            while let Some(header) = Header::parse(rest) {
                ids.push(header.seq);
                rest = &rest[header.total()..];
            }
            ids
        };
        // As a server's own counts go astray: the file it asked for came in one compressed packet.
        let (mut client, mut server) = (as_client(by), as_server(by));
        packed(&mut client, &packet(0, b"\x03LOAD DATA LOCAL"));
        let mut plain = Vec::new();
        open(&mut client, &packed(&mut server, &packet(1, b"\xfbfile")), &mut plain).unwrap();
        packed(&mut client, &[packet(2, b"a"), packet(3, b"b"), packet(4, b"")].concat());
        open(&mut client, &packed(&mut server, &packet(3, b"\0OK")), &mut plain).unwrap();
        assert_eq!(ids(&plain), [1, 5]);
        // As a client's do: a long command, and a file.
        let (mut client, mut server) = (as_client(by), as_server(by));
        let mut command = packet(0, &vec![3; 17 << 20]);
        command[MAX_PAYLOAD + 4 + 3] = 17;
        plain.clear();
        open(&mut server, &packed(&mut client, &command), &mut plain).unwrap();
        packed(&mut server, &packet(2, b"\xfbfile"));
        client.seq = server.seq;
        open(
            &mut server,
            &packed(&mut client, &[packet(9, b"a"), packet(10, b"")].concat()),
            &mut plain,
        )
        .unwrap();
        assert_eq!(ids(&plain), [0, 1, 3, 4]);
        server.next_turn();
        open(&mut server, &packed(&mut client, &packet(0, b"\x03SELECT 1")), &mut plain).unwrap();
        assert_eq!(ids(&plain), [0, 1, 3, 4, 0]);
    }

    #[test]
    fn a_long_file_is_no_command_where_its_count_wraps() {
        let by = Compression::Zlib;
        let (mut client, mut server) = (as_client(by), as_server(by));
        let mut plain = Vec::new();
        open(&mut server, &packed(&mut client, &packet(0, b"\x03LOAD DATA LOCAL")), &mut plain)
            .unwrap();
        open(&mut client, &packed(&mut server, &packet(1, b"\xfbfile")), &mut plain).unwrap();
        plain.clear();
        let mut expected: u8 = 2;
        // Its own ids count from another start, as clients' do: they pass 0 elsewhere.
        for count in 0..600_u32 {
            let seq = u8::try_from((count + 100) % 256).unwrap();
            let part = packed(&mut client, &packet(seq, b"a line"));
            assert_eq!(counts(&part), [expected], "{count}");
            open(&mut server, &part, &mut plain).unwrap();
            expected = expected.wrapping_add(1);
        }
        let mut rest = plain.as_slice();
        let mut natural: u8 = 2;
        while let Some(header) = Header::parse(rest) {
            assert_eq!(header.seq, natural);
            natural = natural.wrapping_add(1);
            rest = &rest[header.total()..];
        }
        assert_eq!(natural, expected);
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let header = |len, seq, uncompressed| CompressedHeader { len, seq, uncompressed }.bytes();
        for by in BOTH {
            let good = packed(&mut as_client(by), &packet(0, &[7; 4_000]));
            let mut claims_more = good.clone();
            claims_more[4] += 1;
            let mut out_of_order = good.clone();
            out_of_order[3] = 5;
            let mut garbled = good.clone();
            let middle = garbled.len() / 2;
            garbled[middle] ^= 0x55;
            let bomb = [&header(14, 0, 0xFF_FFFF)[..], b"no such stream"].concat();
            for bad in [&claims_more, &out_of_order, &garbled, &bomb] {
                let mut plain = Vec::new();
                assert!(open(&mut as_server(by), bad, &mut plain).is_err(), "{by:?}");
                assert!(plain.capacity() < 1 << 20);
            }
            // An empty one, stored, is none that any server sends, and harms nobody.
            open(&mut as_server(by), &header(0, 0, 0), &mut Vec::new()).unwrap();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_chunking_gives_the_same_packets(
            zstd: bool,
            payloads in prop::collection::vec((0_usize..70_000, any::<u8>()), 1..6),
            cuts in prop::collection::vec(1_usize..40_000, 1..8),
            chunks in prop::collection::vec(1_usize..9_000, 1..8),
        ) {
            let by = if zstd { Compression::Zstd } else { Compression::Zlib };
            let mut stream = Vec::new();
            let mut seq = 1;
            for (len, byte) in payloads {
                let payload: Vec<u8> = (0..len).map(|at| byte ^ u8::try_from(at % 7).unwrap()).collect();
                seq = write_packet(&mut stream, seq, &payload);
            }
            let (mut server, mut client) = (as_server(by), as_client(by));
            packed(&mut client, &packet(0, b"\x03SELECT 1"));
            let mut sent = Vec::new();
            let mut rest = stream.as_slice();
            for cut in cuts.iter().cycle() {
                let (part, later) = rest.split_at(rest.len().min(*cut));
                sent.extend(packed(&mut server, part));
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            let mut plain = Vec::new();
            let mut rest = sent.as_slice();
            for chunk in chunks.iter().cycle() {
                let (part, later) = rest.split_at(rest.len().min(*chunk));
                open(&mut client, part, &mut plain).unwrap();
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert!(plain == stream);
            prop_assert_eq!(client.len(), 0);
        }

        #[test]
        fn no_bytes_make_it_panic(zstd: bool, bytes in prop::collection::vec(any::<u8>(), 0..200), len in 0_usize..60) {
            let by = if zstd { Compression::Zstd } else { Compression::Zlib };
            let header = CompressedHeader { len, seq: 0, uncompressed: bytes.len() * 3 }.bytes();
            let _ = open(&mut as_server(by), &[&header[..], &bytes].concat(), &mut Vec::new());
            let _ = open(&mut as_client(by), &bytes, &mut Vec::new());
        }
    }
}
