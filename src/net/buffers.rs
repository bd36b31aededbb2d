//! A worker's buffers: 256 bytes for whoever waits, 64 KiB for whoever moves data.
//!
//! 64 KiB is the knee: reads of 16 KiB cost 1.3 times a gigabyte, 128 KiB gains nothing. A session that waits holds
//! a small buffer and nothing more, so that thousands of idle agents cost a few MiB.

use std::cell::RefCell;

use super::packer::Packer;
use crate::session::Spare;

/// What an idle leg holds: an ordinary command fits, and a longer one costs one more read.
pub(super) const SMALL: usize = 256;

/// What a leg borrows while data streams.
pub(super) const LARGE: usize = 64 << 10;

/// Free buffers kept of each size: 4 MiB of large ones, enough for 64 streams at once on one core.
const KEPT_LARGE: usize = 64;
const KEPT_SMALL: usize = 1_024;

/// The free lists of one worker.
#[derive(Default)]
pub(super) struct Buffers {
    large: RefCell<Vec<Vec<u8>>>,
    small: RefCell<Vec<Vec<u8>>>,
    /// Compression's contexts: buffers of their own kind, borrowed for one packet.
    pub(super) packer: RefCell<Packer>,
}

impl Buffers {
    /// An empty buffer with room for at least `bytes`.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        if bytes <= SMALL {
            return self.small.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(SMALL));
        }
        if bytes <= LARGE {
            return self.large.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(LARGE));
        }
        Vec::with_capacity(bytes)
    }

    /// Takes a buffer back. Odd sizes (grown for a long packet) are freed.
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        let (list, kept) = match buffer.capacity() {
            SMALL => (&self.small, KEPT_SMALL),
            LARGE => (&self.large, KEPT_LARGE),
            _ => return,
        };
        let mut list = list.borrow_mut();
        if list.len() < kept {
            buffer.clear();
            list.push(buffer);
        }
    }
}

/// Rooms for responses, kept for whoever runs the next statement.
#[derive(Default)]
pub(super) struct Spares(RefCell<Vec<Spare>>);

impl Spares {
    pub(super) fn take(&self) -> Option<Spare> {
        self.0.borrow_mut().pop()
    }

    pub(super) fn give(&self, spare: Spare) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT_SMALL {
            kept.push(spare);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_odd_ones_are_freed() {
        let buffers = Buffers::default();
        let mut large = buffers.take(SMALL + 1);
        assert_eq!(large.capacity(), LARGE);
        large.extend_from_slice(b"secret");
        let at = large.as_ptr();
        buffers.give(large);
        let again = buffers.take(LARGE);
        assert_eq!(again.as_ptr(), at);
        assert!(again.is_empty());
        buffers.give(Vec::with_capacity(LARGE + 1));
        assert!(buffers.large.borrow().is_empty());
        assert_eq!(buffers.take(1).capacity(), SMALL);
        assert!(buffers.take(1 << 20).capacity() >= 1 << 20);
    }
}
