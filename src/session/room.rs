//! How much room long packets may take, over all sessions of a worker: statements while they arrive and run, rows that are
//! collected to be masked. What finds none is refused at once, so that nobody waits for another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::response::Response;
use super::{Op, Session, Side, Step};
use crate::fault::{Fault, FaultKind};

/// Packets of up to so many bytes are not counted: every session that works borrows a buffer of that size.
const UNCOUNTED: usize = 64 << 10;

/// A worker's room for long packets.
#[derive(Debug)]
pub struct Room {
    most: usize,
    taken: AtomicUsize,
}

/// A part of it, given back when dropped.
#[derive(Debug)]
pub(super) struct Taken {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    /// Room for so many bytes.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: AtomicUsize::new(0) })
    }

    /// How much of it is taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Sees to it that `taken` is room for a packet of so many bytes, if that must have some.
    fn take(self: &Arc<Self>, bytes: usize, taken: &mut Option<Taken>) -> Result<(), Fault> {
        let has = taken.as_ref().map_or(0, |taken| taken.bytes);
        if bytes <= UNCOUNTED.max(has) {
            return Ok(());
        }
        let more = bytes - has;
        let left = |taken: usize| taken.checked_add(more).filter(|all| *all <= self.most);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .map_err(|_| no_room())?;
        let taken = taken.get_or_insert_with(|| Taken { room: Arc::clone(self), bytes: 0 });
        taken.bytes += more;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Session {
    /// Room for a command of so many bytes, until it is answered.
    pub(super) fn collect(&mut self, bytes: usize) -> Result<(), Fault> {
        self.settings.room.take(bytes, &mut self.collected)
    }

    /// Room for what this step waits for, if that is a long packet of the database.
    pub(super) fn collect_row(&self, response: &mut Response, step: &Step) -> Result<(), Fault> {
        match step.op {
            Op::Read { side: Side::Server, at_least } if at_least > UNCOUNTED => {
                self.settings.room.take(at_least, &mut response.collecting)
            }
            _ => {
                response.collecting = None;
                Ok(())
            }
        }
    }
}

/// 1041/HY000, as the servers say that there is no memory.
fn no_room() -> Fault {
    let text = "Rowgate [RG-BUSY]: too many long statements or rows are under way at once (server.max_collected_bytes); \
                try again later";
    Fault::new(FaultKind::Limit, 1041, *b"HY000", text)
}
