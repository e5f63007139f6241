//! What a request costs before and after the application: its head read, its body decoded, the response head made, the
//! access line written.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rgunicorn_core::http::{
    BodyDecoder, BodyFraming, Circumstances, HeadReader, Policy, RequestHead, ResponseHead, Version,
};
use rgunicorn_core::log::{AccessRecord, LogFormat, RequestLine};

const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n";

/// What a browser sends.
const USUAL: &[u8] = b"GET /static/app.js?v=42 HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: */*\r\n\
    Accept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://www.example.com/\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes\r\nSec-Fetch-Dest: script\r\n\
    Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: same-origin\r\nIf-None-Match: \"5f3c-1a2b3c\"\r\n\r\n";

const ACCESS_LOG_FORMAT: &str = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#;

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request head");
    let policy = Policy::default();
    for (name, bytes) in [("small", SMALL), ("usual", USUAL)] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let (mut buffer, mut reader, mut head) =
            (bytes.to_vec(), HeadReader::default(), RequestHead::default());
        group.bench_function(name, |bencher| {
            bencher.iter(|| reader.read(black_box(&mut buffer), &mut head, &policy, true));
        });
    }
}

fn chunks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request body");
    let body = [format!("2710\r\n{}\r\n", "b".repeat(10_000)).repeat(10).as_bytes(), b"0\r\n\r\n"].concat();
    group.throughput(Throughput::Bytes(body.len() as u64));
    let policy = Policy::default();
    group.bench_function("ten chunks of 10 KB", |bencher| {
        bencher.iter(|| {
            let mut total = 0;
            let mut decoder = BodyDecoder::new(BodyFraming::Chunked);
            let decoded = decoder.decode(black_box(&body), &policy, &mut |piece| total += piece.len());
            (decoded, total)
        });
    });
}

fn response_head(criterion: &mut Criterion) {
    let circumstances = Circumstances {
        version: Version::HTTP_11,
        head_request: false,
        keep_alive: true,
        known_length: Some(21),
    };
    let (mut head, mut out) = (ResponseHead::default(), Vec::with_capacity(1024));
    criterion.bench_function("response head", |bencher| {
        bencher.iter(|| {
            out.clear();
            let started = head.start(black_box(b"200 OK"));
            let first = head.header(b"Content-Type", b"text/html; charset=utf-8");
            let second = head.header(b"X-Frame-Options", b"DENY");
            (started.is_ok(), first.is_ok(), second.is_ok(), head.finish(&mut out, &circumstances))
        });
    });
}

fn access_line(criterion: &mut Criterion) {
    let Ok(format) = LogFormat::compile(ACCESS_LOG_FORMAT) else { return };
    let record = AccessRecord {
        remote_addr: "127.0.0.1",
        request: Some(RequestLine {
            method: b"GET",
            target: b"/static/app.js?v=42",
            path: b"/static/app.js",
            query: b"v=42",
            version: Version::HTTP_11,
        }),
        status: 200,
        sent: 12_345,
        elapsed: Duration::from_micros(417),
        request_header: &|name| {
            (name == "user-agent").then_some(b"Mozilla/5.0 (X11; Linux x86_64)".as_slice())
        },
        response_header: &|_| None,
        request_headers: &|_| {},
        response_headers: &|_| {},
        variables: &[],
    };
    let mut out = Vec::with_capacity(1024);
    criterion.bench_function("access line", |bencher| {
        bencher.iter(|| {
            out.clear();
            format.write(&mut out, black_box(&record), 4711);
            out.len()
        });
    });
}

criterion_group!(benches, heads, chunks, response_head, access_line);
criterion_main!(benches);
