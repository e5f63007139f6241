//! The logs as JSON, an object a line.

use serde_json::{Map, Value};

use super::format::AccessRecord;
use crate::config::LogLevel;
use crate::sys::clock::Stamp;

/// A line of the error log.
pub(super) fn message(out: &mut Vec<u8>, stamp: &Stamp, level: LogLevel, message: &str) {
    let mut object = Map::new();
    put(&mut object, "time", text(stamp.error()));
    put(&mut object, "level", level.name().into());
    put(&mut object, "pid", std::process::id().into());
    put(&mut object, "message", message.into());
    line(out, object);
}

/// A line of the access log.
pub(super) fn access(out: &mut Vec<u8>, record: &AccessRecord<'_>, process: u32) {
    let mut object = Map::new();
    put(&mut object, "time", text(Stamp::now().error()));
    put(&mut object, "pid", process.into());
    put(&mut object, "remote_addr", record.remote_addr.into());
    if let Some(request) = &record.request {
        put(&mut object, "method", text(request.method));
        put(&mut object, "path", text(request.path));
        put(&mut object, "query", text(request.query));
        let version = request.version;
        put(&mut object, "protocol", format!("HTTP/{}.{}", version.major, version.minor).into());
    }
    put(&mut object, "status", record.status.into());
    put(&mut object, "bytes", record.sent.into());
    put(&mut object, "seconds", (record.elapsed.as_micros() as f64 / 1e6).into());
    for (name, header) in [("referer", "referer"), ("user_agent", "user-agent")] {
        if let Some(value) = (record.request_header)(header) {
            put(&mut object, name, text(value));
        }
    }
    line(out, object);
}

fn put(object: &mut Map<String, Value>, name: &str, value: Value) {
    object.insert(name.to_owned(), value);
}

/// What a client has sent may be no UTF-8.
fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into()
}

fn line(out: &mut Vec<u8>, object: Map<String, Value>) {
    // Strings and numbers can always be written to memory.
    let _ = serde_json::to_writer(&mut *out, &object);
    out.push(b'\n');
}
