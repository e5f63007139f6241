//! The `Date` header (RFC 9110 section 6.6.1), made once a second.

use std::cell::RefCell;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

/// The length of an IMF-fixdate such as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub const DATE_LEN: usize = 29;

/// The last date that was made, and the second it stands for.
#[derive(Debug, Clone)]
pub struct DateCache {
    second: u64,
    text: [u8; DATE_LEN],
}

impl DateCache {
    /// A cache that holds the beginning of 1970.
    pub const fn new() -> Self {
        DateCache { second: 0, text: *b"Thu, 01 Jan 1970 00:00:00 GMT" }
    }

    /// The date of `time`, in the form that HTTP wants.
    pub fn at(&mut self, time: SystemTime) -> [u8; DATE_LEN] {
        // A clock before 1970 or behind 9999 is nonsense that httpdate would panic at.
        const LAST: u64 = 253_402_300_799;
        let second = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).min(LAST);
        if second != self.second {
            let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
            // Can't fail: the form has a fixed length.
            if write!(&mut self.text[..], "{date}").is_ok() {
                self.second = second;
            }
        }
        self.text
    }
}

impl Default for DateCache {
    fn default() -> Self {
        DateCache::new()
    }
}

thread_local! {
    static CACHE: RefCell<DateCache> = const { RefCell::new(DateCache::new()) };
}

/// The value of the `Date` header right now.
pub fn now() -> [u8; DATE_LEN] {
    let time = SystemTime::now();
    // The thread's cache is gone only while the thread ends.
    CACHE.try_with(|cache| cache.borrow_mut().at(time)).unwrap_or_else(|_| DateCache::new().at(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(count: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(count)
    }

    #[test]
    fn follows_the_clock_in_both_directions() {
        let mut cache = DateCache::new();
        assert_eq!(&cache.at(second(784_111_777)), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(
            &cache.at(second(784_111_777) + Duration::from_millis(999)),
            b"Sun, 06 Nov 1994 08:49:37 GMT"
        );
        assert_eq!(&cache.at(second(784_111_778)), b"Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(&cache.at(second(0)), b"Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn a_clock_gone_wrong_is_no_panic() {
        let mut cache = DateCache::new();
        assert_eq!(&cache.at(UNIX_EPOCH - Duration::from_secs(5)), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(&cache.at(second(999_999_999_999)), b"Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
