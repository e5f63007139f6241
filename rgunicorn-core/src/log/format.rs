//! An access log format, compiled, and what it can print (gunicorn's `access_log_format`).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use super::escape;
use crate::http::Version;
use crate::sys::clock::Stamp;

/// A finished request, as the access log sees it. Everything is borrowed.
#[derive(Clone, Copy)]
pub struct AccessRecord<'a> {
    /// The client's address; empty on a Unix socket.
    pub remote_addr: &'a str,
    /// What was asked for; none if it could not be made out.
    pub request: Option<RequestLine<'a>>,
    /// The status of the response.
    pub status: u16,
    /// Bytes of the response's body that were sent.
    pub sent: u64,
    /// From the request's arrival to the response's end.
    pub elapsed: Duration,
    /// Finds a request header by its name in lower case.
    pub request_header: &'a dyn Fn(&str) -> Option<&'a [u8]>,
    /// Finds a response header by its name in lower case.
    pub response_header: &'a dyn Fn(&str) -> Option<&'a [u8]>,
    /// Shows all request headers, name and value, as they were sent.
    pub request_headers: &'a dyn Fn(&mut Show<'_>),
    /// Shows all response headers that the application has set.
    pub response_headers: &'a dyn Fn(&mut Show<'_>),
    /// The values of [`LogFormat::variables`], in that order; fewer, or empty ones, print as `-`.
    pub variables: &'a [String],
}

/// What headers are shown to, one after the other.
pub type Show<'a> = dyn FnMut(&[u8], &[u8]) + 'a;

impl std::fmt::Debug for AccessRecord<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessRecord")
            .field("remote_addr", &self.remote_addr)
            .field("request", &self.request)
            .field("status", &self.status)
            .field("sent", &self.sent)
            .field("elapsed", &self.elapsed)
            .finish_non_exhaustive()
    }
}

/// The request line of a request, in its parts.
#[derive(Debug, Clone, Copy)]
pub struct RequestLine<'a> {
    /// `GET`
    pub method: &'a [u8],
    /// The target as sent.
    pub target: &'a [u8],
    /// The path of it, percent-encoded.
    pub path: &'a [u8],
    /// What follows its question mark; empty if nothing does.
    pub query: &'a [u8],
    /// The protocol version.
    pub version: Version,
}

/// A format that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'%' at position {position} of {format:?} begins no field; write %(atom)s, or %% for a percent sign")]
pub struct FormatError {
    /// Characters before the percent sign.
    position: usize,
    /// The whole format.
    format: String,
}

/// A compiled `access_log_format`.
#[derive(Debug, Clone)]
pub struct LogFormat {
    pieces: Vec<Piece>,
    variables: Vec<String>,
}

#[derive(Debug, Clone)]
enum Piece {
    Text(Vec<u8>),
    Field(Atom, Layout),
}

#[derive(Debug, Clone)]
enum Atom {
    /// `h`
    RemoteAddress,
    /// `u`
    User,
    /// `t`
    Time,
    /// `r`
    Request,
    /// `m`
    Method,
    /// `U`
    Path,
    /// `q`
    Query,
    /// `H`
    Protocol,
    /// `s`
    Status,
    /// `b`, `B`
    Sent,
    /// `T`
    Seconds,
    /// `D`
    Microseconds,
    /// `M`
    Milliseconds,
    /// `L`
    DecimalSeconds,
    /// `p`
    Process,
    /// `{name}i`, `f`, `a`
    RequestHeader(String),
    /// `{name}o`
    ResponseHeader(String),
    /// `{name}e`: an index into the variables.
    Variable(usize),
    /// `l`, and what nobody knows.
    Dash,
}

/// What Python's `%` operator accepts between the parenthesis and the letter: `%(h)-15s`, `%(a).40s`.
#[derive(Debug, Clone, Copy, Default)]
struct Layout {
    left: bool,
    zeros: bool,
    width: usize,
    precision: Option<usize>,
}

impl LogFormat {
    /// Compiles a format such as `%(h)s "%(r)s" %(s)s %({x-request-id}i)s`.
    ///
    /// # Errors
    /// [`FormatError`] where gunicorn would fail at each request.
    pub fn compile(format: &str) -> Result<LogFormat, FormatError> {
        let mut pieces = Vec::new();
        let mut variables = Vec::new();
        let mut text = Vec::new();
        let mut rest = format;
        while let Some((before, behind)) = rest.split_once('%') {
            text.extend_from_slice(before.as_bytes());
            if let Some(behind) = behind.strip_prefix('%') {
                text.push(b'%');
                rest = behind;
                continue;
            }
            let position = format.len() - behind.len() - 1;
            let (name, layout, behind) = field(behind).ok_or_else(|| FormatError {
                position: format[..position].chars().count(),
                format: format.to_owned(),
            })?;
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Field(atom(name, &mut variables), layout));
            rest = behind;
        }
        text.extend_from_slice(rest.as_bytes());
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(LogFormat { pieces, variables })
    }

    /// The names that the format asks the application for (`%({name}e)s`), each once.
    pub fn variables(&self) -> &[String] {
        &self.variables
    }

    /// Appends the line for `record`, without a line end. `process` is what `%(p)s` prints.
    pub fn write(&self, out: &mut Vec<u8>, record: &AccessRecord<'_>, process: u32) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Field(atom, layout) => {
                    let start = out.len();
                    atom.write(out, record, process);
                    layout.apply(out, start);
                }
            }
        }
    }
}

/// `(name)s` and the like: the name, the layout, and what follows.
fn field(text: &str) -> Option<(&str, Layout, &str)> {
    let (name, mut rest) = text.strip_prefix('(')?.split_once(')')?;
    let mut layout = Layout::default();
    while let Some(flag) = rest.chars().next().filter(|flag| "-+ #0".contains(*flag)) {
        layout.left |= flag == '-';
        layout.zeros |= flag == '0';
        rest = rest.strip_prefix(flag)?;
    }
    let number = |rest: &mut &str| -> Option<usize> {
        let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, behind) = rest.split_at(end);
        *rest = behind;
        digits.parse().ok().map(|number: usize| number.min(1000))
    };
    layout.width = number(&mut rest).unwrap_or(0);
    if let Some(behind) = rest.strip_prefix('.') {
        rest = behind;
        layout.precision = Some(number(&mut rest).unwrap_or(0));
    }
    let conversion = rest.chars().next().filter(|letter| "sdiur".contains(*letter))?;
    if conversion != 's' && conversion != 'r' {
        layout.precision = None;
    }
    Some((name, layout, rest.strip_prefix(conversion)?))
}

fn atom(name: &str, variables: &mut Vec<String>) -> Atom {
    if let Some((name, kind)) = name.strip_prefix('{').and_then(|name| name.rsplit_once('}')) {
        return match kind {
            "i" | "I" => Atom::RequestHeader(name.to_ascii_lowercase()),
            "o" | "O" => Atom::ResponseHeader(name.to_ascii_lowercase()),
            "e" | "E" => {
                let known = variables.iter().position(|known| known == name);
                Atom::Variable(known.unwrap_or_else(|| {
                    variables.push(name.to_owned());
                    variables.len() - 1
                }))
            }
            _ => Atom::Dash,
        };
    }
    match name {
        "h" => Atom::RemoteAddress,
        "u" => Atom::User,
        "t" => Atom::Time,
        "r" => Atom::Request,
        "m" => Atom::Method,
        "U" => Atom::Path,
        "q" => Atom::Query,
        "H" => Atom::Protocol,
        "s" => Atom::Status,
        "b" | "B" => Atom::Sent,
        "f" => Atom::RequestHeader("referer".to_owned()),
        "a" => Atom::RequestHeader("user-agent".to_owned()),
        "T" => Atom::Seconds,
        "D" => Atom::Microseconds,
        "M" => Atom::Milliseconds,
        "L" => Atom::DecimalSeconds,
        "p" => Atom::Process,
        _ => Atom::Dash,
    }
}

impl Atom {
    fn write(&self, out: &mut Vec<u8>, record: &AccessRecord<'_>, process: u32) {
        let elapsed = record.elapsed;
        match self {
            Atom::RemoteAddress if record.remote_addr.is_empty() => out.push(b'-'),
            Atom::RemoteAddress => escape::text(out, record.remote_addr),
            Atom::User => user(out, (record.request_header)("authorization")),
            Atom::Time => {
                out.push(b'[');
                out.extend_from_slice(Stamp::now().access());
                out.push(b']');
            }
            Atom::Status => decimal(out, u64::from(record.status)),
            Atom::Sent => decimal(out, record.sent),
            Atom::Seconds => decimal(out, elapsed.as_secs()),
            Atom::Microseconds => decimal(out, elapsed.as_micros() as u64),
            Atom::Milliseconds => decimal(out, elapsed.as_millis() as u64),
            Atom::DecimalSeconds => {
                decimal(out, elapsed.as_secs());
                out.push(b'.');
                // Six digits: the seventh, a leading 1, keeps the zeros and gives way to the point.
                let point = out.len() - 1;
                decimal(out, 1_000_000 + u64::from(elapsed.subsec_micros()));
                out.remove(point + 1);
            }
            Atom::Process => {
                out.push(b'<');
                decimal(out, u64::from(process));
                out.push(b'>');
            }
            Atom::RequestHeader(name) => or_dash(out, (record.request_header)(name)),
            Atom::ResponseHeader(name) => or_dash(out, (record.response_header)(name)),
            Atom::Variable(index) => match record.variables.get(*index).map(String::as_str) {
                None | Some("") => out.push(b'-'),
                Some(value) => escape::text(out, value),
            },
            Atom::Dash => out.push(b'-'),
            Atom::Request | Atom::Method | Atom::Path | Atom::Query | Atom::Protocol => match &record.request
            {
                Some(request) => self.write_request(out, request),
                None => out.push(b'-'),
            },
        }
    }

    fn write_request(&self, out: &mut Vec<u8>, request: &RequestLine<'_>) {
        match self {
            Atom::Method => escape::latin1(out, request.method),
            Atom::Path => escape::decoded_path(out, request.path),
            Atom::Query => escape::latin1(out, request.query),
            Atom::Protocol => protocol(out, request.version),
            _ => {
                escape::latin1(out, request.method);
                out.push(b' ');
                escape::latin1(out, request.target);
                out.push(b' ');
                protocol(out, request.version);
            }
        }
    }
}

impl Layout {
    /// Cuts and pads what was written from `start` on. Counts bytes; only `precision` and `width` of text that isn't
    /// ASCII notice.
    fn apply(self, out: &mut Vec<u8>, start: usize) {
        if let Some(precision) = self.precision {
            let mut end = out.len().min(start + precision);
            // Not in the middle of a character.
            while end > start && out.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
                end -= 1;
            }
            out.truncate(end);
        }
        let missing = (start + self.width).saturating_sub(out.len());
        if missing > 0 {
            out.resize(out.len() + missing, b' ');
            if !self.left
                && let Some(field) = out.get_mut(start..)
            {
                field.rotate_right(missing);
                if self.zeros && field.iter().skip(missing).all(u8::is_ascii_digit) {
                    field.iter_mut().take(missing).for_each(|byte| *byte = b'0');
                }
            }
        }
    }
}

fn or_dash(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(value) => escape::latin1(out, value),
        None => out.push(b'-'),
    }
}

fn protocol(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(b"HTTP/");
    decimal(out, u64::from(version.major));
    out.push(b'.');
    decimal(out, u64::from(version.minor));
}

fn decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut rest = number;
    let mut length = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
        length += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - length..).unwrap_or(&[]));
}

/// The user name of Basic authorization (RFC 7617): UTF-8, or else Latin-1.
fn user(out: &mut Vec<u8>, authorization: Option<&[u8]>) {
    let mut decoded = [0; 384];
    let name = authorization.and_then(|value| {
        let (scheme, credentials) = value.split_at_checked(6)?;
        // Longer ones than fit are no user names; four digits make three bytes.
        let credentials = credentials.trim_ascii();
        if !scheme.eq_ignore_ascii_case(b"basic ") || credentials.len() > 512 {
            return None;
        }
        let length = STANDARD.decode_slice(credentials, &mut decoded).ok()?;
        decoded.get(..length)?.split(|byte| *byte == b':').next().filter(|name| !name.is_empty())
    });
    match name.map(|name| std::str::from_utf8(name).map_err(|_| name)) {
        Some(Ok(name)) => escape::text(out, name),
        // Which of the two it is nobody says.
        Some(Err(name)) => escape::latin1(out, name),
        None => out.push(b'-'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: &str, change: impl Fn(&mut AccessRecord<'_>)) -> String {
        let request = |name: &str| match name {
            "authorization" => Some(&b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="[..]),
            "user-agent" => Some(&b"curl/8 \"x\""[..]),
            "x-id" => Some(&b"7\n8"[..]),
            _ => None,
        };
        let response = |name: &str| (name == "content-type").then_some(&b"text/plain"[..]);
        let variables = ["me".to_owned(), String::new()];
        let mut record = AccessRecord {
            remote_addr: "127.0.0.1",
            request: Some(RequestLine {
                method: b"GET",
                target: b"/a%20b?x=1",
                path: b"/a%20b",
                query: b"x=1",
                version: Version::HTTP_11,
            }),
            status: 200,
            sent: 1234,
            elapsed: Duration::from_micros(3_004_005),
            request_header: &request,
            response_header: &response,
            request_headers: &|_| {},
            response_headers: &|_| {},
            variables: &variables,
        };
        change(&mut record);
        let mut out = Vec::new();
        LogFormat::compile(format).unwrap().write(&mut out, &record, 77);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_atom() {
        for (format, expected) in [
            ("%(h)s", "127.0.0.1"),
            ("%(l)s", "-"),
            ("%(u)s", "Aladdin"),
            ("%(r)s", "GET /a%20b?x=1 HTTP/1.1"),
            ("%(m)s", "GET"),
            ("%(U)s", "/a b"),
            ("%(q)s", "x=1"),
            ("%(H)s", "HTTP/1.1"),
            ("%(s)s", "200"),
            ("%(B)d", "1234"),
            ("%(b)s", "1234"),
            ("%(f)s", "-"),
            ("%(a)s", r#"curl/8 \"x\""#),
            ("%(T)s", "3"),
            ("%(D)s", "3004005"),
            ("%(M)s", "3004"),
            ("%(L)s", "3.004005"),
            ("%(p)s", "<77>"),
            ("%({X-Id}i)s", r"7\n8"),
            ("%({Content-Type}o)s", "text/plain"),
            ("%({REMOTE_USER}e)s %({empty}e)s %({third}e)s", "me - -"),
            ("%(nonsense)s %({x}z)s", "- -"),
            ("100%% %(s)s%%", "100% 200%"),
            ("", ""),
        ] {
            assert_eq!(line(format, |_| ()), expected, "{format}");
        }
        let time = line("%(t)s", |_| ());
        assert_eq!((time.len(), time.starts_with('['), time.ends_with(']')), (28, true, true));
    }

    #[test]
    fn users_are_utf_8_or_latin_1() {
        let names = [
            // alice:caf\xe9, ren\xe9:8, René:x and :x.
            line("%(u)s", |record| record.request_header = &|_| Some(b"Basic YWxpY2U6Y2Fm6Q==")),
            line("%(u)s", |record| record.request_header = &|_| Some(b"Basic cmVu6To4")),
            line("%(u)s", |record| record.request_header = &|_| Some(b"Basic UmVuw6k6eA==")),
            line("%(u)s", |record| record.request_header = &|_| Some(b"Basic Ong=")),
        ];
        assert_eq!(names, ["alice", "rené", "René", "-"]);
    }

    #[test]
    fn what_is_unknown_is_a_dash() {
        assert_eq!(line("%(r)s|%(m)s|%(U)s|%(q)s|%(H)s", |record| record.request = None), "-|-|-|-|-");
        assert_eq!(line("%(h)s", |record| record.remote_addr = ""), "-");
        assert_eq!(line("%(u)s", |record| record.request_header = &|_| Some(b"Basic !!!")), "-");
        assert_eq!(line("%(u)s", |record| record.request_header = &|_| Some(b"Bearer abc")), "-");
        assert_eq!(line("%(L)s", |record| record.elapsed = Duration::ZERO), "0.000000");
    }

    #[test]
    fn layouts_of_python() {
        assert_eq!(line("%(s)6s|%(s)-6s|%(s)06d|%(m).2s|", |_| ()), "   200|200   |000200|GE|");
    }

    #[test]
    fn variables_are_listed_once() {
        let format = LogFormat::compile("%({a}e)s %({b}e)s %({a}e)s").unwrap();
        assert_eq!(format.variables(), ["a", "b"]);
    }

    #[test]
    fn a_broken_format_is_an_error() {
        for (format, position) in [("%h", 0), ("é%(h", 1), ("%(h)", 0), ("%(h)s 5%", 7), ("%(h)q", 0)] {
            assert_eq!(LogFormat::compile(format).unwrap_err().position, position, "{format}");
        }
    }
}
