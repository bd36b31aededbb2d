//! Times as auditors type them: RFC 3339, a day, or how long ago.

use jiff::Timestamp;
use jiff::civil::Date;

use crate::cli::args::duration_s;
use crate::clock::now_us;

/// A time in microseconds since the epoch.
pub(super) fn time_us(text: &str) -> Result<i64, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.as_microsecond());
    }
    // (a date is also read from a time without a zone, of which nobody knows which it is)
    let day = text.parse::<Date>().ok().filter(|_| text.len() == "2026-11-29".len());
    if let Some(Ok(start)) = day.map(|day| format!("{day}T00:00:00Z").parse::<Timestamp>()) {
        return Ok(start.as_microsecond());
    }
    let ago = duration_s(text).ok().and_then(|seconds| i64::try_from(seconds).ok());
    let ago = ago.and_then(|seconds| seconds.checked_mul(1_000_000));
    ago.map(|us| now_us().saturating_sub(us)).ok_or_else(|| {
        "write a time with its zone (2026-11-29T08:00:00Z), a day (2026-11-29, in UTC), or how long ago (7d, 2h, 30m)"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(time_us("1970-01-01T00:00:01Z"), Ok(1_000_000));
        assert_eq!(time_us("1970-01-01T01:00:01.5+01:00"), Ok(1_500_000));
        assert_eq!(time_us("1970-01-02"), Ok(86_400_000_000));
        let now = now_us();
        let later = time_us("2h").unwrap() + 7_200_000_000 - now;
        assert!((0..10_000_000).contains(&later), "{later}");
        for bad in ["", "yesterday", "2026-11-29T08:00:00", "2026-13-01", "5", "5 d", "-1d"] {
            assert!(time_us(bad).is_err(), "{bad}");
        }
    }
}
