//! The request line (RFC 9112 section 3): method, target, version.

use std::net::Ipv6Addr;

use super::grammar::{is_token, quote};
use super::{Policy, Refusal, Span, Version};

/// A request line that was accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RequestLine {
    pub method: Span,
    pub target: Span,
    pub path: Span,
    pub query: Span,
    pub version: Version,
    /// Whether the method is CONNECT.
    pub connect: bool,
}

/// Takes the line in `buffer[start..end]` apart; turns the method to upper case there, if the policy says so.
///
/// # Errors
/// 400 for anything that isn't `method SP request-target SP HTTP-version`, with one space each.
pub(super) fn parse(
    buffer: &mut [u8],
    start: usize,
    end: usize,
    policy: &Policy,
) -> Result<RequestLine, Refusal> {
    let line = buffer.get_mut(start..end).unwrap_or_default();
    let mut words = line.splitn(3, |&byte| byte == b' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Err(Refusal::bad(format!(
            "request line {} is not a method, a target and a version with one space between them",
            quote(line)
        )));
    };
    let (method_end, target_start) = (start + method.len(), start + method.len() + 1);
    let target_end = target_start + target.len();
    check_method(method, policy)?;
    let version = check_version(version, policy)?;
    check_target_characters(target)?;

    if policy.casefold_http_method {
        line.get_mut(..method_end - start).unwrap_or_default().make_ascii_uppercase();
    }
    let method = line.get(..method_end - start).unwrap_or(&[]);
    let target = line.get(target_start - start..target_end - start).unwrap_or(&[]);
    let (path, query) = split(method, target)?;
    let span = |start: usize, end: usize| Span { start: start as u32, end: end as u32 };
    Ok(RequestLine {
        method: span(start, method_end),
        target: span(target_start, target_end),
        path: span(target_start + path.start, target_start + path.end),
        query: span(target_start + query.start, target_start + query.end),
        version,
        connect: method == b"CONNECT",
    })
}

/// RFC 9110 section 9.1: a token. That it has no lower-case letter, no `#`, and 3 to 20 characters, is gunicorn's
/// addition: true of every registered method.
fn check_method(method: &[u8], policy: &Policy) -> Result<(), Refusal> {
    let conventional = (3..=20).contains(&method.len())
        && !method.iter().any(|&byte| byte.is_ascii_lowercase() || byte == b'#');
    if is_token(method) && (conventional || policy.permit_unconventional_http_method) {
        return Ok(());
    }
    Err(Refusal::bad(format!("invalid method {}", quote(method))))
}

/// RFC 9112 section 2.3: `HTTP/` DIGIT `.` DIGIT, in capitals.
fn check_version(version: &[u8], policy: &Policy) -> Result<Version, Refusal> {
    let version = match version {
        b"HTTP/1.1" => return Ok(Version::HTTP_11),
        b"HTTP/1.0" => return Ok(Version::HTTP_10),
        [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9'] => {
            Version { major: major - b'0', minor: minor - b'0' }
        }
        _ => return Err(Refusal::bad(format!("invalid HTTP version {}", quote(version)))),
    };
    if policy.permit_unconventional_http_version {
        return Ok(version);
    }
    Err(Refusal::bad(format!("unsupported version HTTP/{}.{}", version.major, version.minor)))
}

/// RFC 9112 section 3.2 with RFC 3986 section 2: visible ASCII, at least one.
fn check_target_characters(target: &[u8]) -> Result<(), Refusal> {
    if target.is_empty() {
        return Err(Refusal::bad("the request target is empty"));
    }
    match target.iter().find(|byte| !byte.is_ascii_graphic()) {
        None => Ok(()),
        Some(&byte) => Err(Refusal::bad(format!(
            "request target {} has the byte {byte:#04x}, which must be percent-encoded",
            quote(target)
        ))),
    }
}

type Range = std::ops::Range<usize>;

/// The path and the query of a target, by its form (RFC 9112 section 3.2). A fragment has no business in a target;
/// gunicorn cuts it off, and so do we.
fn split(method: &[u8], target: &[u8]) -> Result<(Range, Range), Refusal> {
    let none = target.len()..target.len();
    if method == b"CONNECT" {
        // Section 3.2.3. There is no path, then.
        return match is_authority(target) {
            true => Ok((none.clone(), none)),
            false => Err(Refusal::bad(format!(
                "request target {} is not host:port, as CONNECT needs it",
                quote(target)
            ))),
        };
    }
    match target {
        // Section 3.2.1. What starts with two slashes is a path all the same.
        [b'/', ..] => Ok(path_and_query(target, 0)),
        // Section 3.2.4.
        b"*" if method == b"OPTIONS" => Ok((0..1, none)),
        b"*" => Err(Refusal::bad("the request target * is for OPTIONS only")),
        _ => match authority(target) {
            Some(authority) if !brackets_are_sound(target.get(authority.clone()).unwrap_or(&[])) => {
                Err(Refusal::bad(format!(
                    "request target {} has brackets in its host that aren't around an IPv6 address",
                    quote(target)
                )))
            }
            Some(authority) => Ok(path_and_query(target, authority.end)),
            None => Err(Refusal::bad(format!(
                "request target {} is neither a path, starting with /, nor an absolute URI",
                quote(target)
            ))),
        },
    }
}

/// Where path, query and fragment lie, if the path begins at `start`.
fn path_and_query(target: &[u8], start: usize) -> (Range, Range) {
    let rest = target.get(start..).unwrap_or(&[]);
    let fragment = start + memchr::memchr(b'#', rest).unwrap_or(rest.len());
    let rest = target.get(start..fragment).unwrap_or(&[]);
    match memchr::memchr(b'?', rest) {
        Some(mark) => (start..start + mark, start + mark + 1..fragment),
        None => (start..fragment, fragment..fragment),
    }
}

/// Where the authority of an absolute URI lies: `scheme "://" authority` (RFC 3986 sections 3.1 and 3.2), neither part
/// empty.
fn authority(target: &[u8]) -> Option<Range> {
    let scheme = memchr::memmem::find(target, b"://")?;
    let (first, others) = target.get(..scheme)?.split_first()?;
    let in_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if !first.is_ascii_alphabetic() || !others.iter().all(in_scheme) {
        return None;
    }
    let start = scheme + 3;
    let rest = target.get(start..)?;
    let length = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    (length > 0).then_some(start..start + length)
}

/// Whether brackets stand in an authority only around an IP literal that is all of its host (RFC 3986 section 3.2.2): what
/// takes the URI apart again, as Python's `urllib.parse` does, would fail on others.
fn brackets_are_sound(authority: &[u8]) -> bool {
    if memchr::memchr2(b'[', b']', authority).is_none() {
        return true;
    }
    let host = memchr::memrchr(b'@', authority).map_or(0, |at| at + 1);
    let (user, host) = authority.split_at(host);
    let Some(literal) = host.strip_prefix(b"[") else { return false };
    let Some(end) = memchr::memchr(b']', literal) else { return false };
    let (literal, port) = (literal.get(..end).unwrap_or(&[]), literal.get(end + 1..).unwrap_or(&[]));
    let port_is_sound = port.is_empty()
        || port.strip_prefix(b":").is_some_and(|digits| digits.iter().all(u8::is_ascii_digit));
    memchr::memchr2(b'[', b']', user).is_none() && is_ip_literal(literal) && port_is_sound
}

/// What may stand in brackets: an IPv6 address, with a zone (RFC 6874) or not, or one of a version to come.
fn is_ip_literal(literal: &[u8]) -> bool {
    if let [b'v' | b'V', future @ ..] = literal {
        let Some(dot) = memchr::memchr(b'.', future) else { return false };
        let (version, address) = future.split_at(dot);
        let in_address = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(byte);
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && address.len() > 1
            && address.iter().all(in_address);
    }
    let (address, zone) = match memchr::memchr(b'%', literal) {
        Some(percent) => literal.split_at(percent),
        None => (literal, &b"%zone"[..]),
    };
    zone.len() > 1 && std::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// `uri-host ":" port` (RFC 9110 section 7.2), without looking into the host more than needed.
fn is_authority(target: &[u8]) -> bool {
    let Some(colon) = memchr::memrchr(b':', target) else { return false };
    let (host, port) = target.split_at(colon);
    let in_host = |byte: &u8| !matches!(byte, b'/' | b'?' | b'#' | b'@');
    let port = port.get(1..).unwrap_or(&[]);
    !host.is_empty()
        && host.iter().all(in_host)
        && !port.is_empty()
        && port.iter().all(u8::is_ascii_digit)
        && brackets_are_sound(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(line: &str, policy: &Policy) -> Result<(String, String, String, String), String> {
        let mut buffer = line.as_bytes().to_vec();
        let end = buffer.len();
        let line = parse(&mut buffer, 0, end, policy).map_err(|refusal| {
            assert_eq!(refusal.status, 400);
            refusal.message
        })?;
        let text = |span: Span| String::from_utf8(span.of(&buffer).to_vec()).unwrap();
        Ok((text(line.method), text(line.target), text(line.path), text(line.query)))
    }

    #[test]
    fn targets_of_all_forms() {
        for (line, path, query) in [
            ("GET / HTTP/1.1", "/", ""),
            ("GET /a/b%20c?d=e?f HTTP/1.1", "/a/b%20c", "d=e?f"),
            ("GET /a#b?c HTTP/1.1", "/a", ""),
            ("GET /a?b#c HTTP/1.1", "/a", "b"),
            ("GET //evil/a?b HTTP/1.1", "//evil/a", "b"),
            ("GET /http://a?b HTTP/1.1", "/http://a", "b"),
            ("GET http://a:80/b?c HTTP/1.1", "/b", "c"),
            ("GET http://a HTTP/1.1", "", ""),
            ("GET http://a?b HTTP/1.1", "", "b"),
            ("GET http://[::1]:80/b HTTP/1.1", "/b", ""),
            ("GET http://u:p@[fe80::1%25eth0]/b HTTP/1.1", "/b", ""),
            ("GET http://[v1.a:b]/b HTTP/1.1", "/b", ""),
            ("GET http://a/[b]?[c] HTTP/1.1", "/[b]", "[c]"),
            ("GET /[b HTTP/1.1", "/[b", ""),
            ("OPTIONS * HTTP/1.1", "*", ""),
            ("CONNECT a.example:443 HTTP/1.1", "", ""),
            ("CONNECT [::1]:443 HTTP/1.1", "", ""),
        ] {
            let target = line.split(' ').nth(1).unwrap().to_string();
            let method = line.split(' ').next().unwrap().to_string();
            let want = (method, target, path.to_string(), query.to_string());
            assert_eq!(parts(line, &Policy::default()), Ok(want), "{line}");
        }
    }

    #[test]
    fn lines_that_are_refused() {
        for line in [
            "GET",
            "GET /",
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            "GET / HTTP/1.1 ",
            " GET / HTTP/1.1",
            "GET\t/\tHTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
            "GET /\0 HTTP/1.1",
            "GET /\x7f HTTP/1.1",
            "GET /\t HTTP/1.1",
            "GET * HTTP/1.1",
            "GET a.example:80 HTTP/1.1",
            "GET a HTTP/1.1",
            "GET ?a HTTP/1.1",
            "OPTIONS ** HTTP/1.1",
            "GET ://a/ HTTP/1.1",
            "GET 1http://a/ HTTP/1.1",
            "GET ht_tp://a/ HTTP/1.1",
            "GET http:///b HTTP/1.1",
            "GET a?http://b HTTP/1.1",
            "GET http:a HTTP/1.1",
            "GET http://[::1/x HTTP/1.1",
            "GET http://::1]/x HTTP/1.1",
            "GET s://]ufd/: HTTP/1.1",
            "GET http://[]/ HTTP/1.1",
            "GET http://[a]/ HTTP/1.1",
            "GET http://[127.0.0.1]/ HTTP/1.1",
            "GET http://[::1%]/ HTTP/1.1",
            "GET http://[v1]/ HTTP/1.1",
            "GET http://[vg.a]/ HTTP/1.1",
            "GET http://[::1]a/ HTTP/1.1",
            "GET http://[::1]:a/ HTTP/1.1",
            "GET http://a[::1]/ HTTP/1.1",
            "GET http://[u]@[::1]/ HTTP/1.1",
            "GET http://[[::1]]/ HTTP/1.1",
            "CONNECT /a HTTP/1.1",
            "CONNECT a HTTP/1.1",
            "CONNECT a: HTTP/1.1",
            "CONNECT :1 HTTP/1.1",
            "CONNECT a:b HTTP/1.1",
            "CONNECT http://a:1 HTTP/1.1",
            "CONNECT u@a:1 HTTP/1.1",
            "CONNECT [::1:1 HTTP/1.1",
            "CONNECT [a]:1 HTTP/1.1",
            "CONNECT * HTTP/1.1",
            "get / HTTP/1.1",
            "GE#T / HTTP/1.1",
            "GE / HTTP/1.1",
            "GETGETGETGETGETGETGET / HTTP/1.1",
            "GE(T / HTTP/1.1",
            "G\u{c9}T / HTTP/1.1",
            "GET / HTTP/1.2",
            "GET / HTTP/2.0",
            "GET / HTTP/0.9",
            "GET / HTTP/1.10",
            "GET / HTTP/1",
            "GET / HTTP/11",
            "GET / http/1.1",
            "GET / HTTP/1.x",
            "GET / HTTP/+1.1",
            "GET / XHTTP/1.1",
        ] {
            assert!(parts(line, &Policy::default()).is_err(), "{line:?}");
        }
    }

    #[test]
    fn methods_may_be_relaxed() {
        let mut policy = Policy { permit_unconventional_http_method: true, ..Policy::default() };
        for method in ["get", "GE#T", "X", "GETGETGETGETGETGETGET"] {
            let line = format!("{method} / HTTP/1.1");
            assert_eq!(parts(&line, &policy).unwrap().0, method);
        }
        assert!(parts("GE(T / HTTP/1.1", &policy).is_err());
        policy.casefold_http_method = true;
        assert_eq!(parts("get / HTTP/1.1", &policy).unwrap().0, "GET");
        // The check for CONNECT and OPTIONS comes behind it.
        assert!(parts("options * HTTP/1.1", &policy).is_ok());
        policy.permit_unconventional_http_method = false;
        assert!(parts("get / HTTP/1.1", &policy).is_err());
    }

    #[test]
    fn versions_may_be_relaxed() {
        let policy = Policy { permit_unconventional_http_version: true, ..Policy::default() };
        for (text, version) in
            [("HTTP/2.0", Version { major: 2, minor: 0 }), ("HTTP/1.2", Version { major: 1, minor: 2 })]
        {
            let mut line = format!("GET / {text}").into_bytes();
            let end = line.len();
            assert_eq!(parse(&mut line, 0, end, &policy).unwrap().version, version);
        }
        assert!(parts("GET / HTTP/1.10", &policy).is_err());
    }
}
