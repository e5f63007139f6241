//! What the header fields of a request mean to the server: which of them are kept, and all that a
//! [`RequestHead`](super::RequestHead) says besides.

use super::framing::Codings;
use super::grammar::{list, quote};
use super::{BodyFraming, HeaderMap, Policy, Refusal, Scheme, Version};

/// Gathers what the fields say, while they are gone through in order.
#[derive(Debug)]
pub(super) struct Meaning<'p> {
    policy: &'p Policy,
    /// Whether the peer's scheme and forwarding headers are believed.
    trusted: bool,
    version: Version,
    host: bool,
    content_type: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    scheme: Option<Scheme>,
    codings: Codings,
}

/// What the fields said, in the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub body: BodyFraming,
    pub scheme: Scheme,
    /// By `Connection` and the version (RFC 9112 section 9.3).
    pub keep_alive: bool,
    pub expects_continue: bool,
}

impl<'p> Meaning<'p> {
    pub(super) fn new(policy: &'p Policy, trusted: bool, version: Version) -> Self {
        Meaning {
            policy,
            trusted,
            version,
            host: false,
            content_type: false,
            close: false,
            keep_alive: false,
            expects_continue: false,
            scheme: None,
            codings: Codings::default(),
        }
    }

    /// Takes note of one field; says whether the application gets to see it.
    ///
    /// # Errors
    /// 400 for repeated fields that must be single, contradictions, and names that `header_map` refuses; 417 for
    /// expectations; what [`Codings`] has.
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) -> Result<bool, Refusal> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        match name.len() {
            4 if is("Host") => single(&mut self.host, "Host")?,
            6 if is("Expect") => self.expect(value)?,
            10 if is("Connection") => self.connection(value),
            12 if is("Content-Type") => single(&mut self.content_type, "Content-Type")?,
            14 if is("Content-Length") => self.codings.content_length(value)?,
            17 if is("Transfer-Encoding") => self.codings.transfer_encoding(value)?,
            _ => {}
        }
        if self.trusted {
            self.secure_scheme(name, value)?;
        }
        // In a WSGI environ, `A_B` can't be told from `A-B`. Nothing above looks at a name with an underscore, except
        // for scheme headers that were configured with one.
        if memchr::memchr(b'_', name).is_none() || self.trusted && self.is_forwarder_header(name) {
            return Ok(true);
        }
        match self.policy.header_map {
            HeaderMap::Dangerous => Ok(true),
            HeaderMap::Drop => Ok(false),
            HeaderMap::Refuse => Err(Refusal::bad(format!(
                "header name {} has an underscore (header_map = refuse)",
                quote(name)
            ))),
        }
    }

    /// What all fields together mean.
    ///
    /// # Errors
    /// Those of [`Codings::framing`].
    pub(super) fn conclude(self) -> Result<Said, Refusal> {
        let body = self.codings.framing(self.version)?;
        Ok(Said {
            body,
            scheme: self.scheme.unwrap_or_default(),
            keep_alive: !self.close && (self.keep_alive || self.version >= Version::HTTP_11),
            // Without a body there is nothing that the client could wait to send (RFC 9110 section 10.1.1).
            expects_continue: self.expects_continue
                && !matches!(body, BodyFraming::None | BodyFraming::Length(0)),
        })
    }

    /// RFC 9110 section 10.1.1. HTTP/1.0 doesn't know 100; there the expectation is ignored.
    fn expect(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal::expectation_failed(format!("can't meet the expectation {}", quote(value))));
        }
        self.expects_continue = self.version >= Version::HTTP_11;
        Ok(())
    }

    /// RFC 9110 section 7.6.1.
    fn connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// gunicorn: `secure_scheme_headers`. All that are sent must agree.
    fn secure_scheme(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let headers = &self.policy.secure_scheme_headers;
        let Some((_, secure)) =
            headers.iter().find(|(header, _)| name.eq_ignore_ascii_case(header.as_bytes()))
        else {
            return Ok(());
        };
        // Some proxies (Traefik) name the scheme of a WebSocket's URL, which is as secure.
        let is_secure = value == secure.as_bytes() || (secure == "https" && value == b"wss");
        let scheme = if is_secure { Scheme::Https } else { Scheme::Http };
        match self.scheme.replace(scheme) {
            Some(before) if before != scheme => Err(Refusal::bad(format!(
                "contradictory scheme headers: {} disagrees with one before it",
                quote(name)
            ))),
            _ => Ok(()),
        }
    }

    /// gunicorn: `forwarder_headers`.
    fn is_forwarder_header(&self, name: &[u8]) -> bool {
        let mut listed = self.policy.forwarder_headers.iter();
        listed.any(|header| header == "*" || name.eq_ignore_ascii_case(header.as_bytes()))
    }
}

/// RFC 9110 section 5.3: a field that is no list can't be joined with another; who takes the first and who the last?
fn single(seen: &mut bool, name: &str) -> Result<(), Refusal> {
    if std::mem::replace(seen, true) {
        return Err(Refusal::bad(format!("more than one {name} header")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the fields mean and the names that are kept, or the status of the refusal.
    fn meaning(
        policy: &Policy,
        trusted: bool,
        version: Version,
        fields: &[(&str, &str)],
    ) -> Result<(Said, String), u16> {
        let mut meaning = Meaning::new(policy, trusted, version);
        let mut kept = Vec::new();
        for (name, value) in fields {
            if meaning.field(name.as_bytes(), value.as_bytes()).map_err(|refusal| refusal.status)? {
                kept.push(*name);
            }
        }
        let said = meaning.conclude().map_err(|refusal| refusal.status)?;
        Ok((said, kept.join(" ")))
    }

    #[test]
    fn connections_live_by_version_and_options() {
        for (version, values, want) in [
            (Version::HTTP_11, &[][..], true),
            (Version::HTTP_11, &["close"], false),
            (Version::HTTP_11, &["Close"], false),
            (Version::HTTP_11, &["Upgrade, close"], false),
            (Version::HTTP_11, &["keep-alive", "close"], false),
            (Version::HTTP_11, &["closed"], true),
            (Version::HTTP_10, &[], false),
            (Version::HTTP_10, &["Keep-Alive"], true),
            (Version::HTTP_10, &["x , keep-alive"], true),
            (Version::HTTP_10, &["keep-alive, close"], false),
        ] {
            let fields: Vec<_> = values.iter().map(|value| ("Connection", *value)).collect();
            let (said, _) = meaning(&Policy::default(), false, version, &fields).unwrap();
            assert_eq!(said.keep_alive, want, "{version:?} {values:?}");
        }
    }

    #[test]
    fn expectations() {
        let of = |version, value, length| {
            meaning(&Policy::default(), false, version, &[("Expect", value), ("Content-Length", length)])
                .map(|(said, _)| said.expects_continue)
        };
        assert_eq!(of(Version::HTTP_11, "100-continue", "1"), Ok(true));
        assert_eq!(of(Version::HTTP_11, "100-Continue", "1"), Ok(true));
        assert_eq!(of(Version::HTTP_11, "100-continue", "0"), Ok(false));
        assert_eq!(of(Version::HTTP_10, "100-continue", "1"), Ok(false));
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert_eq!(of(version, "100-continue, x", "1"), Err(417));
            assert_eq!(of(version, "", "1"), Err(417));
        }
    }

    #[test]
    fn single_fields() {
        let of = |fields: &[(&str, &str)]| {
            meaning(&Policy::default(), false, Version::HTTP_11, fields).map(|_| ())
        };
        assert_eq!(of(&[("Host", "a"), ("host", "a")]), Err(400));
        assert_eq!(of(&[("Content-Type", "a"), ("CONTENT-TYPE", "a")]), Err(400));
        assert_eq!(of(&[("Accept", "a"), ("Accept", "b")]), Ok(()));
    }

    #[test]
    fn schemes_are_believed_of_trusted_peers_only() {
        let of = |trusted, fields: &[(&str, &str)]| {
            meaning(&Policy::default(), trusted, Version::HTTP_11, fields).map(|(said, _)| said.scheme)
        };
        let https = ("X-Forwarded-Proto", "https");
        assert_eq!(of(true, &[https]), Ok(Scheme::Https));
        assert_eq!(of(true, &[https, https, ("x-forwarded-ssl", "on")]), Ok(Scheme::Https));
        assert_eq!(of(true, &[("X-Forwarded-Proto", "HTTPS")]), Ok(Scheme::Http));
        assert_eq!(of(true, &[("X-Forwarded-Proto", "wss")]), Ok(Scheme::Https));
        assert_eq!(of(true, &[("X-Forwarded-Proto", "ws")]), Ok(Scheme::Http));
        assert_eq!(of(true, &[("X-Forwarded-Ssl", "wss")]), Ok(Scheme::Http));
        assert_eq!(of(true, &[https, ("X-Forwarded-Ssl", "off")]), Err(400));
        assert_eq!(of(true, &[("X-Forwarded-Ssl", "off"), https]), Err(400));
        assert_eq!(of(false, &[https]), Ok(Scheme::Http));
        assert_eq!(of(false, &[https, ("X-Forwarded-Ssl", "off")]), Ok(Scheme::Http));
    }

    #[test]
    fn names_with_an_underscore() {
        let fields = [("A", "1"), ("A_B", "1"), ("Script_Name", "/x"), ("Content_Length", "5")];
        let of = |policy: &Policy, trusted| {
            meaning(policy, trusted, Version::HTTP_11, &fields).map(|(said, kept)| {
                assert_eq!(said.body, BodyFraming::None);
                kept
            })
        };
        let mut policy = Policy::default();
        assert_eq!(of(&policy, false).unwrap(), "A");
        assert_eq!(of(&policy, true).unwrap(), "A Script_Name");
        policy.forwarder_headers = vec!["*".into()];
        assert_eq!(of(&policy, true).unwrap(), "A A_B Script_Name Content_Length");
        assert_eq!(of(&policy, false).unwrap(), "A");
        policy.header_map = HeaderMap::Refuse;
        assert_eq!(of(&policy, true).unwrap(), "A A_B Script_Name Content_Length");
        assert_eq!(of(&policy, false), Err(400));
        policy.header_map = HeaderMap::Dangerous;
        assert_eq!(of(&policy, false).unwrap(), "A A_B Script_Name Content_Length");
    }
}
