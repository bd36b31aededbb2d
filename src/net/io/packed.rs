//! The leg's layers between `plain` and the socket: compressed packets, and TLS records around them.

use std::io;

use super::{Leg, tls_error};
use crate::codec::Compression;
use crate::net::buffers::{Buffers, LARGE};
use crate::net::compressed::{Compressed, Role};
use crate::net::packer::Damaged;

impl Leg {
    /// Opens compressed packets until `want` bytes are there in all, or none is whole or has its turn. One may hold 16 MiB in
    /// a few KiB, so none is opened that nobody asks for.
    pub(in crate::net) fn gather(&mut self, want: usize, buffers: &Buffers) -> io::Result<()> {
        let Some(compressed) = &mut self.compressed else { return Ok(()) };
        self.plain.drain(..self.start);
        self.start = 0;
        while self.plain.len() < want && compressed.len() > 0 {
            if self.plain.capacity() == 0 {
                self.plain = buffers.take(compressed.len());
            }
            let mut packer = buffers.packer.borrow_mut();
            if !compressed.open(&mut self.plain, &mut packer).map_err(damaged)? {
                break;
            }
        }
        Ok(())
    }

    /// The peer's command is answered: its next one may be looked at.
    pub(in crate::net) fn next_turn(&mut self) {
        if let Some(compressed) = &mut self.compressed {
            compressed.next_turn();
        }
    }

    /// Whether all that the peer has said is used up.
    pub(in crate::net) fn is_used_up(&self) -> bool {
        self.len() == 0 && self.compressed.as_ref().is_none_or(|compressed| compressed.len() == 0)
    }

    /// Whether more may be read while nobody asks for it.
    pub(in crate::net) fn has_room(&self) -> bool {
        let closed = self.compressed.as_ref().map_or(0, |compressed| compressed.len());
        self.len() + closed < LARGE
    }

    /// Both directions are compressed from here on. Once is enough.
    pub(in crate::net) fn start_compression(&mut self, by: Compression, role: Role) {
        if self.compressed.is_none() {
            self.compressed = Some(Box::new(Compressed::new(by, role, self.bytes())));
            self.plain.clear();
            self.start = 0;
        }
    }

    /// Where that waits; none: what is written is sent from where it stands.
    pub(super) fn outgoing(&mut self) -> Option<&mut Vec<u8>> {
        match (&mut self.tls, &mut self.compressed) {
            (Some(tls), _) => Some(&mut tls.outgoing),
            (None, Some(compressed)) => Some(&mut compressed.outgoing),
            (None, None) => None,
        }
    }

    /// Puts `bytes` behind what is owed, compressed and sealed.
    pub(super) fn wrap(&mut self, bytes: &[u8], buffers: &Buffers) -> io::Result<()> {
        let Self { tls, compressed, .. } = self;
        let mut packed = None;
        if let Some(compressed) = compressed {
            // Inside TLS it is sealed from a buffer of its own, else it is what goes out.
            let mut out =
                if tls.is_some() { Vec::new() } else { std::mem::take(&mut compressed.outgoing) };
            if out.capacity() == 0 {
                out = buffers.take(bytes.len());
            }
            compressed.pack(bytes, &mut out, &mut buffers.packer.borrow_mut());
            if tls.is_some() {
                packed = Some(out);
            } else {
                compressed.outgoing = out;
            }
        }
        let Some(tls) = tls else { return Ok(()) };
        if tls.outgoing.capacity() == 0 {
            tls.outgoing = buffers.take(bytes.len());
        }
        tls.seal(packed.as_deref().unwrap_or(bytes)).map_err(tls_error)?;
        buffers.give(packed.unwrap_or_default());
        Ok(())
    }
}

/// Takes over what a read gave: what was there before went with it, unless it was lent before there was any.
pub(super) fn put(incoming: &mut Vec<u8>, buffer: Vec<u8>, buffers: &Buffers) {
    if incoming.is_empty() {
        buffers.give(std::mem::replace(incoming, buffer));
    } else {
        incoming.extend_from_slice(&buffer);
        buffers.give(buffer);
    }
}

fn damaged(fault: Damaged) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}
