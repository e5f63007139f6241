//! The monotonic clock, and local time as the logs print it.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Milliseconds since some moment before this machine's start; the same in all processes, and never going back.
pub fn monotonic_ms() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1000 + time.tv_nsec() as u64 / 1_000_000)
}

/// A moment in local time with its offset from UTC, in the two spellings that logs have.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    second: i64,
    error: [u8; 25],
    access: [u8; 26],
}

impl Stamp {
    /// Now. Computed once a second.
    pub fn now() -> Stamp {
        thread_local! {
            static LAST: Cell<Stamp> =
                const { Cell::new(Stamp { second: i64::MIN, error: [0; 25], access: [0; 26] }) };
        }
        let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        LAST.with(|last| {
            if last.get().second != second {
                last.set(Stamp::of(&local_time(second), second));
            }
            last.get()
        })
    }

    /// `2026-11-23 12:00:00 +0000`
    pub fn error(&self) -> &[u8] {
        &self.error
    }

    /// `23/Nov/2026:12:00:00 +0000`
    pub fn access(&self) -> &[u8] {
        &self.access
    }

    fn of(time: &libc::tm, second: i64) -> Stamp {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let year = time.tm_year + 1900;
        let month = MONTHS.get(time.tm_mon as usize).copied().unwrap_or("???");
        let sign = if time.tm_gmtoff < 0 { '-' } else { '+' };
        let offset = time.tm_gmtoff.abs() / 60;
        let clock = format!(
            "{:02}:{:02}:{:02} {sign}{:02}{:02}",
            time.tm_hour,
            time.tm_min,
            time.tm_sec,
            offset / 60,
            offset % 60
        );
        let error = format!("{year:04}-{:02}-{:02} {clock}", time.tm_mon + 1, time.tm_mday);
        let access = format!("{:02}/{month}/{year:04}:{clock}", time.tm_mday);
        Stamp { second, error: fit(&error), access: fit(&access) }
    }
}

/// The text in an array; what a year of more than four digits pushes out is lost.
fn fit<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [b' '; N];
    out.iter_mut().zip(text.bytes()).for_each(|(place, byte)| *place = byte);
    out
}

fn local_time(second: i64) -> libc::tm {
    // SAFETY: all-zero is a valid `tm`; `localtime_r` fills it, or leaves it alone.
    unsafe {
        let mut time: libc::tm = std::mem::zeroed();
        libc::localtime_r(&raw const second, &raw mut time);
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Stamp {
        // SAFETY: as above.
        let mut time: libc::tm = unsafe { std::mem::zeroed() };
        (time.tm_year, time.tm_mon, time.tm_mday) = (126, 10, 23);
        (time.tm_hour, time.tm_min, time.tm_sec) = (12, 3, 4);
        time.tm_gmtoff = offset;
        Stamp::of(&time, 0)
    }

    #[test]
    fn stamps_are_spelt_as_gunicorn_does() {
        assert_eq!(at(0).error(), b"2026-11-23 12:03:04 +0000");
        assert_eq!(at(0).access(), b"23/Nov/2026:12:03:04 +0000");
    }

    #[test]
    fn offsets_have_a_sign_and_minutes() {
        assert_eq!(at(5 * 3600 + 1800).error(), b"2026-11-23 12:03:04 +0530");
        assert_eq!(at(-9 * 3600 - 1800).access(), b"23/Nov/2026:12:03:04 -0930");
    }
}
