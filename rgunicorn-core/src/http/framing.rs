//! How long the body of a request is, by its head (RFC 9112 section 6): where request smuggling is prevented.

use super::grammar::{decimal, list, quote};
use super::{BodyFraming, Refusal, Version};

/// What `Content-Length` and `Transfer-Encoding` say, gathered while the fields are gone through.
#[derive(Debug, Default)]
pub(super) struct Codings {
    length: Option<u64>,
    encoded: bool,
    chunked: bool,
    /// A coding that we know but don't undo.
    other: bool,
}

impl Codings {
    /// Takes note of a `Content-Length` (RFC 9110 section 8.6).
    ///
    /// # Errors
    /// 400 for anything but digits, a number that is too large, and a second `Content-Length`, even an equal one.
    pub(super) fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let Some(length) = decimal(value) else {
            return Err(Refusal::bad(format!("invalid Content-Length {}", quote(value))));
        };
        match self.length.replace(length) {
            None => Ok(()),
            Some(_) => Err(Refusal::bad("more than one Content-Length")),
        }
    }

    /// Takes note of a `Transfer-Encoding` (RFC 9112 section 6.1). Several of them are one list.
    ///
    /// # Errors
    /// 400 if anything follows `chunked`, and for the obsolete `identity`; 501 for codings that nobody registered.
    pub(super) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        self.encoded = true;
        for coding in list(value) {
            let is = |name: &str| coding.eq_ignore_ascii_case(name.as_bytes());
            let registered = ["gzip", "deflate", "compress", "x-gzip", "x-compress"].into_iter().any(is);
            if !(is("chunked") || is("identity") || registered) {
                return Err(Refusal::not_implemented(format!("unknown transfer coding {}", quote(coding))));
            }
            if self.chunked {
                return Err(Refusal::bad("a transfer coding behind chunked, which must be the last one"));
            }
            if is("identity") {
                return Err(Refusal::bad("identity is not a transfer coding any more"));
            }
            self.chunked = is("chunked");
            self.other |= registered;
        }
        Ok(())
    }

    /// The framing that follows (RFC 9112 section 6.3).
    ///
    /// # Errors
    /// 400 where two readers could come to different lengths; 501 for codings below `chunked` that we don't undo.
    pub(super) fn framing(&self, version: Version) -> Result<BodyFraming, Refusal> {
        if !self.encoded {
            return Ok(self.length.map_or(BodyFraming::None, BodyFraming::Length));
        }
        if !self.chunked {
            return Err(Refusal::bad("Transfer-Encoding without chunked: the body has no end"));
        }
        if version < Version::HTTP_11 {
            return Err(Refusal::bad("Transfer-Encoding in an HTTP/1.0 request"));
        }
        if self.length.is_some() {
            return Err(Refusal::bad("Content-Length together with Transfer-Encoding"));
        }
        if self.other {
            return Err(Refusal::not_implemented("a transfer coding other than chunked"));
        }
        Ok(BodyFraming::Chunked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The framing, or the status of the refusal.
    fn framing(lengths: &[&str], codings: &[&str], version: Version) -> Result<BodyFraming, u16> {
        let mut gathered = Codings::default();
        for length in lengths {
            gathered.content_length(length.as_bytes()).map_err(|refusal| refusal.status)?;
        }
        for coding in codings {
            gathered.transfer_encoding(coding.as_bytes()).map_err(|refusal| refusal.status)?;
        }
        gathered.framing(version).map_err(|refusal| refusal.status)
    }

    #[test]
    fn lengths() {
        let of = |lengths: &[&str]| framing(lengths, &[], Version::HTTP_11);
        assert_eq!(of(&[]), Ok(BodyFraming::None));
        assert_eq!(of(&["0"]), Ok(BodyFraming::Length(0)));
        assert_eq!(of(&["0012"]), Ok(BodyFraming::Length(12)));
        assert_eq!(of(&["18446744073709551615"]), Ok(BodyFraming::Length(u64::MAX)));
        for bad in
            ["", "+1", "-1", "1_0", "0x1", "1,1", "1, 1", "1 1", "\u{b9}", "\u{661}", "18446744073709551616"]
        {
            assert_eq!(of(&[bad]), Err(400), "{bad:?}");
        }
        assert_eq!(of(&["1", "2"]), Err(400));
        assert_eq!(of(&["1", "1"]), Err(400));
    }

    #[test]
    fn codings() {
        let of = |codings: &[&str]| framing(&[], codings, Version::HTTP_11);
        assert_eq!(of(&["chunked"]), Ok(BodyFraming::Chunked));
        assert_eq!(of(&["CHUNKED"]), Ok(BodyFraming::Chunked));
        for bad in [
            &["chunked, chunked"][..],
            &["chunked", "chunked"],
            &["chunked, gzip"],
            &["chunked", "gzip"],
            &["gzip"],
            &["identity"],
            &["identity, chunked"],
            &["chunked, identity"],
        ] {
            assert_eq!(of(bad), Err(400), "{bad:?}");
        }
        for unknown in [
            &["gzip, chunked"][..],
            &["gzip", "chunked"],
            &["x-gzip, chunked"],
            &["deflate, chunked"],
            &["xchunked"],
            &["chunked;q=1"],
            &["\"chunked\""],
            &["chunked\x0b"],
            &["chunked, x"],
            &[""],
            &["chunked,"],
            &[", chunked"],
        ] {
            assert_eq!(of(unknown), Err(501), "{unknown:?}");
        }
    }

    #[test]
    fn contradictions() {
        assert_eq!(framing(&["3"], &["chunked"], Version::HTTP_11), Err(400));
        assert_eq!(framing(&["3"], &["gzip, chunked"], Version::HTTP_11), Err(400));
        assert_eq!(framing(&[], &["chunked"], Version::HTTP_10), Err(400));
        assert_eq!(framing(&["3"], &[], Version::HTTP_10), Ok(BodyFraming::Length(3)));
    }
}
