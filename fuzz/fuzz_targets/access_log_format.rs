//! `access_log_format`, and what requests put into its lines: a line stays one, in UTF-8, without control characters.
//!
//! The input is the format, a line end, and the parts of a request with zero bytes between them.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rgunicorn_core::http::Version;
use rgunicorn_core::log::{AccessRecord, LogFormat, RequestLine};

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (Ok(format), request) = (std::str::from_utf8(&input[..end]), &input[end..]) else { return };
    let Ok(compiled) = LogFormat::compile(format) else { return };
    let mut parts = request.split(|byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (method, path, query, value) = (part(), part(), part(), part());
    let text = String::from_utf8_lossy(part()).into_owned();
    let header = |_: &str| Some(value);
    let variables = vec![text.clone(); compiled.variables().len()];
    let record = AccessRecord {
        remote_addr: &text,
        request: Some(RequestLine { method, target: path, path, query, version: Version::HTTP_11 }),
        status: request.len() as u16,
        sent: u64::MAX >> (request.len() % 64),
        elapsed: Duration::from_micros(u64::MAX >> (request.len() % 64)),
        request_header: &header,
        response_header: &header,
        request_headers: &|_| {},
        response_headers: &|_| {},
        variables: &variables,
    };
    let mut line = Vec::new();
    compiled.write(&mut line, &record, 77);
    let line = String::from_utf8(line).expect("a line is UTF-8");
    let dangerous = |text: &str| {
        let bidirectional =
            |character| matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        text.chars().filter(|character| character.is_control() || bidirectional(*character)).count()
    };
    assert!(dangerous(&line) <= dangerous(format), "{line:?}");
});
