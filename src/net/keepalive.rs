//! How silent peers are asked whether they are still there: the kernel does it, and ends the connection of one that
//! does not answer, which the session then sees as an error of its read.

use std::time::Duration;

use socket2::TcpKeepalive;

/// Unanswered questions until a peer is given up: three may get lost.
const RETRIES: u32 = 4;

/// After so long a silence, ask; then as many times again as fit into as long.
pub(super) fn asking(silence: Duration) -> TcpKeepalive {
    let interval = (silence / RETRIES).max(Duration::from_secs(1));
    TcpKeepalive::new().with_time(silence).with_interval(interval).with_retries(RETRIES)
}

/// When a peer that answers nothing is given up, by the questions above.
pub(super) fn gone(silence: Duration) -> Duration {
    silence * 2
}
