//! What takes long says so: on standard error, so that the output stays the output.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Quicker work needs no word.
const QUIET: Duration = Duration::from_secs(1);
/// Then it is said again, with the time that has passed.
const AGAIN: Duration = Duration::from_secs(5);

/// Does the work, and says what it is when it takes longer than a second.
pub(super) fn during<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (done, is_done) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let since = Instant::now();
            let mut pause = QUIET;
            while let Err(RecvTimeoutError::Timeout) = is_done.recv_timeout(pause) {
                eprintln!("… {what}, {} s", since.elapsed().as_secs());
                pause = AGAIN;
            }
        });
        let _done = done;
        work()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_work_is_not_held_up() {
        let since = Instant::now();
        assert_eq!(during("counting", || 42), 42);
        assert!(since.elapsed() < QUIET);
    }
}
