//! The logs as JSON, an object a line.

use serde_json::{Map, Value};

use super::escape;
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
    let start = out.len();
    // Strings and numbers can always be written to memory.
    let _ = serde_json::to_writer(&mut *out, &object);
    escape_hidden(out, start);
    out.push(b'\n');
}

/// Puts an escape, which readers of JSON undo, in the place of what a terminal would obey or show elsewhere: within a
/// string, as there is none of it outside.
fn escape_hidden(out: &mut Vec<u8>, start: usize) {
    let written = out.get(start..).unwrap_or(&[]);
    // How they begin in UTF-8. Control characters of ASCII are escaped already, but for DEL.
    if !written.iter().any(|byte| matches!(byte, 0x7f | 0xc2 | 0xe2)) {
        return;
    }
    let line = String::from_utf8_lossy(written).into_owned();
    out.truncate(start);
    for character in line.chars() {
        if character.is_control() || escape::is_misleading(character) {
            out.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
        } else {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_reads_back() {
        let said = "a\u{202e}b\u{9b}31m\u{7f}\x1b[0m\n\u{2066}é";
        let mut out = Vec::new();
        message(&mut out, &Stamp::now(), LogLevel::Info, said);
        let line = String::from_utf8(out).unwrap();
        assert!(line.contains(r"a\u202eb\u009b31m\u007f\u001b[0m\n\u2066é"), "{line}");
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["message"], said);
    }
}
