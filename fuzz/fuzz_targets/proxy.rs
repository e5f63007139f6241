//! The PROXY protocol. What a beginning of the bytes is said to be, more of them don't change.
//!
//! The first byte chooses the versions and the trust.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgunicorn_core::http::proxy::{self, Preface, ProxyVersions};

fuzz_target!(|input: &[u8]| {
    let [flags, bytes @ ..] = input else { return };
    let versions = ProxyVersions { v1: flags & 1 == 0, v2: flags & 2 == 0 };
    let read = |bytes: &[u8]| proxy::read(bytes, versions, flags & 4 == 0);
    let mut said = None;
    for end in 0..=bytes.len().min(600) {
        let now = read(&bytes[..end]);
        if let Some(before) = &said {
            assert_eq!(before, &now, "with {end} bytes");
        } else if now != Ok(Preface::Incomplete) {
            said = Some(now.clone());
        }
        if let Ok(Preface::Header(length, _)) = now {
            assert!(length <= end);
        }
    }
    if let Some(said) = said {
        assert_eq!(said, read(bytes));
    }
});
