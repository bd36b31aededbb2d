//! The one thread that writes: takes every queue's batch, packs and chains it, writes it in one go, syncs once for all, and
//! signs what was written every now and then.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Shared;
use super::frame::{Chain, Packer};
use super::keys::{Keys, SegmentId};
use super::segment::Segment;

/// How long records may lie in a queue when nobody waits for them (a queue that fills wakes the thread): forty
/// wake-ups a second cost nothing that shows.
const PAUSE: Duration = Duration::from_millis(25);

/// How often a disk that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// Without `sync`, how often what was written is made durable all the same.
const LAZY_SYNC: Duration = Duration::from_secs(1);

/// What an empty buffer keeps of its room: a pause of a busy gateway. What a disk that stood still had it grow to, as far as
/// the queues' bound, is given back.
const KEPT: usize = 1 << 20;

/// Where the record goes, and how.
pub(super) struct Place {
    pub(super) dir: PathBuf,
    /// The one to go on with.
    pub(super) segment: Option<Segment>,
    /// The one to make where there is none, and the chain's value before it.
    pub(super) next: (SegmentId, Chain),
    pub(super) segment_bytes: u64,
    pub(super) keys: Keys,
    /// When a checkpoint is due: so long after a record, and behind so many.
    pub(super) checkpoint: (Duration, u64),
    /// Held for as long as anything is written there.
    pub(super) _lock: File,
}

pub(super) fn start(shared: Arc<Shared>, place: Place) -> std::io::Result<JoinHandle<()>> {
    let batches = shared.queues.iter().map(|_| Batch::default()).collect();
    let packer = Packer::new()?;
    // Behind records that a crash left without a checkpoint, one is due at once: a gateway that never lives for long signs too.
    let is_signed = place.segment.as_ref().is_none_or(|segment| segment.unsigned == 0);
    let signed = is_signed.then(Instant::now);
    let disk = Disk { shared, place, batches, packer, frames: Vec::new(), signed };
    std::thread::Builder::new().name("audit".to_owned()).spawn(move || disk.run())
}

/// What was taken from one queue and is not settled yet.
#[derive(Default)]
struct Batch {
    records: Vec<u8>,
    last: u64,
}

struct Disk {
    shared: Arc<Shared>,
    place: Place,
    batches: Vec<Batch>,
    packer: Packer,
    frames: Vec<u8>,
    /// When the last checkpoint was written, or there was nothing to sign; none: one is due.
    signed: Option<Instant>,
}

impl Disk {
    fn run(mut self) {
        let mut synced = Instant::now();
        let mut dirty = false;
        loop {
            let stopping = self.shared.stop.load(Ordering::Acquire);
            let sync = self.shared.sync || stopping || synced.elapsed() >= LAZY_SYNC;
            let pending = self.gather();
            let sign = self.is_to_sign(pending, stopping);
            if !pending && !sign && (!dirty || !sync) {
                if stopping {
                    return;
                }
                std::thread::park_timeout(PAUSE);
                continue;
            }
            match self.write(sync, sign) {
                Ok(()) => {
                    dirty = !sync;
                    if sync {
                        synced = Instant::now();
                    }
                    self.settle();
                }
                Err(error) => {
                    // What was appended but not synced is synced at the next try, even if nothing new comes.
                    dirty = true;
                    self.failed(&error);
                    if stopping {
                        return;
                    }
                    std::thread::sleep(RETRY);
                }
            }
            if !self.shared.sync {
                std::thread::park_timeout(PAUSE);
            }
        }
    }

    /// Takes what the writers handed over, behind what could not be written before.
    fn gather(&mut self) -> bool {
        let mut pending = false;
        for (queue, batch) in self.shared.queues.iter().zip(&mut self.batches) {
            if batch.records.is_empty() {
                batch.last = queue.take(&mut batch.records);
            }
            pending |= !batch.records.is_empty();
        }
        pending
    }

    /// Whether a checkpoint is due: there are records behind the last one, and it is long ago, or the end has come.
    fn is_to_sign(&mut self, pending: bool, stopping: bool) -> bool {
        let unsigned = self.place.segment.as_ref().is_some_and(|segment| segment.unsigned > 0);
        let is_long_ago = self.signed.is_none_or(|at| at.elapsed() >= self.place.checkpoint.0);
        if !unsigned && is_long_ago {
            // the time runs from the first record that is not signed
            self.signed = Some(Instant::now());
        }
        unsigned && (is_long_ago || (stopping && !pending))
    }

    /// Packs, chains and writes all batches in one go, with a checkpoint behind them if one is due.
    fn write(&mut self, sync: bool, sign: bool) -> std::io::Result<()> {
        self.rotate()?;
        let Some(segment) = &mut self.place.segment else { return Ok(()) };
        empty(&mut self.frames);
        let (mut chain, mut records) = (segment.chain, 0);
        for batch in &self.batches {
            let cipher = segment.cipher.as_ref();
            let (next, count) =
                self.packer.frames(&chain, cipher, &batch.records, &mut self.frames)?;
            chain = next;
            records += count;
        }
        let due = sign || segment.unsigned + records >= self.place.checkpoint.1;
        let key = due.then_some(&self.place.keys.signing);
        segment.append(&mut self.frames, (chain, records), key)?;
        if due {
            self.signed = Some(Instant::now());
        }
        self.shared.records.fetch_add(records, Ordering::Relaxed);
        // What was appended must not be appended again, even if syncing it fails now.
        for (queue, batch) in self.shared.queues.iter().zip(&mut self.batches) {
            let bytes = batch.records.len();
            empty(&mut batch.records);
            queue.written(bytes);
        }
        empty(&mut self.frames);
        if sync { segment.sync() } else { Ok(()) }
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        let place = &mut self.place;
        let (id, chain) = match &mut place.segment {
            Some(segment) if segment.is_gone()? => {
                let (number, dir) = (segment.number(), place.dir.display());
                tracing::error!(number, %dir, "the record's segment was deleted; its records are lost");
                (segment.next(), segment.chain)
            }
            Some(segment) if segment.len < place.segment_bytes => return Ok(()),
            Some(segment) => {
                segment.finish(&place.keys.signing)?;
                (segment.next(), segment.chain)
            }
            None => place.next,
        };
        place.segment = Some(Segment::create(&place.dir, id, chain, &place.keys)?);
        Ok(())
    }

    fn settle(&self) {
        if self.shared.failed.load(Ordering::Acquire) {
            tracing::info!("the record can be written again");
            self.shared.recover();
        }
        for (queue, batch) in self.shared.queues.iter().zip(&self.batches) {
            queue.settle(batch.last);
        }
    }

    fn failed(&self, error: &std::io::Error) {
        if !self.shared.failed.load(Ordering::Acquire) {
            tracing::error!(%error, dir = %self.place.dir.display(), "the record can't be written");
        }
        self.shared.fail(&error.to_string());
        self.shared.queues.iter().for_each(super::writer::Queue::fail);
    }
}

fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEPT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_slow_disk_took_is_given_back() {
        let mut buffer = vec![7; 8 << 20];
        empty(&mut buffer);
        assert!(buffer.is_empty() && buffer.capacity() <= KEPT * 2, "{}", buffer.capacity());
        buffer.extend_from_slice(&[7; 4_096]);
        let before = buffer.as_ptr();
        empty(&mut buffer);
        assert_eq!(buffer.as_ptr(), before, "in the steady state nothing is allocated");
    }
}
