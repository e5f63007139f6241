//! Why a request is refused, and with which status.

use thiserror::Error;

use super::date;

/// A reason to refuse a request: the application is never called, the client is told, the connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Refusal {
    /// The status code of the answer.
    pub status: u16,
    /// The reason phrase of the answer.
    pub reason: &'static str,
    /// What was wrong, for the log and for the body of the answer. May hold bytes of the client's: escape it for HTML.
    pub message: String,
}

impl Refusal {
    fn new(status: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Refusal { status, reason, message: message.into() }
    }

    /// 400: the request breaks the protocol.
    #[cold]
    pub fn bad(message: impl Into<String>) -> Self {
        Refusal::new(400, "Bad Request", message)
    }

    /// 403: this client may not do that.
    #[cold]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Refusal::new(403, "Forbidden", message)
    }

    /// 408: the head or the body did not arrive in time.
    #[cold]
    pub fn timeout(message: impl Into<String>) -> Self {
        Refusal::new(408, "Request Timeout", message)
    }

    /// 413: the body is larger than we take.
    #[cold]
    pub fn body_too_large(message: impl Into<String>) -> Self {
        Refusal::new(413, "Content Too Large", message)
    }

    /// 413: the body is larger than `limit_request_body`.
    #[cold]
    pub fn body_over_limit(limit: u64) -> Self {
        Refusal::body_too_large(format!("the request body is larger than limit_request_body, {limit} bytes"))
    }

    /// 413: the body is larger than what a worker may have in temporary files.
    #[cold]
    pub fn body_over_files(limit: u64) -> Self {
        Refusal::body_too_large(format!("the request body is larger than tmp_upload_limit, {limit} bytes"))
    }

    /// 414: the request line is longer than `limit_request_line`.
    #[cold]
    pub fn line_too_long(limit: usize) -> Self {
        Refusal::new(414, "URI Too Long", format!("the request line is longer than {limit} bytes"))
    }

    /// 417: an expectation other than `100-continue`.
    #[cold]
    pub fn expectation_failed(message: impl Into<String>) -> Self {
        Refusal::new(417, "Expectation Failed", message)
    }

    /// 431: too many header fields, or too large ones.
    #[cold]
    pub fn fields_too_large(message: impl Into<String>) -> Self {
        Refusal::new(431, "Request Header Fields Too Large", message)
    }

    /// 431: the head as a whole is larger than `limit_request_head`.
    #[cold]
    pub fn head_over_limit(limit: usize) -> Self {
        Refusal::fields_too_large(format!(
            "the request head is larger than limit_request_head, {limit} bytes"
        ))
    }

    /// 500: the server or its application failed. The message goes to the client too: say nothing that is secret.
    #[cold]
    pub fn internal_error(message: impl Into<String>) -> Self {
        Refusal::new(500, "Internal Server Error", message)
    }

    /// 501: a transfer coding that we don't know, or don't undo.
    #[cold]
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Refusal::new(501, "Not Implemented", message)
    }

    /// 504: the application took longer than it may.
    #[cold]
    pub fn gateway_timeout() -> Self {
        Refusal::new(504, "Gateway Timeout", "")
    }

    /// 507: no space is left for the body.
    #[cold]
    pub fn insufficient_storage(message: impl Into<String>) -> Self {
        Refusal::new(507, "Insufficient Storage", message)
    }

    /// 503: no room for this request now.
    #[cold]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Refusal::new(503, "Service Unavailable", message)
    }

    /// Whether the request may well have been in order.
    pub fn is_the_servers(&self) -> bool {
        matches!(self.status, 500 | 503 | 504 | 507)
    }

    /// The HTML page that tells the client; safe whatever the message holds.
    pub fn body(&self) -> Vec<u8> {
        let reason = self.reason;
        let mut page = format!(
            "<html>\n  <head>\n    <title>{reason}</title>\n  </head>\n  <body>\n    <h1>{reason}</h1>\n    <p>"
        );
        for character in self.message.chars() {
            match character {
                '&' => page.push_str("&amp;"),
                '<' => page.push_str("&lt;"),
                '>' => page.push_str("&gt;"),
                '"' => page.push_str("&quot;"),
                '\'' => page.push_str("&#x27;"),
                other => page.push(other),
            }
        }
        page.push_str("</p>\n  </body>\n</html>\n");
        page.into_bytes()
    }

    /// Appends the whole answer to `out`, head and page; it says that the connection will be closed.
    pub fn response(&self, out: &mut Vec<u8>) {
        let body = self.body();
        out.extend_from_slice(format!("HTTP/1.1 {} {}\r\n", self.status, self.reason).as_bytes());
        out.extend_from_slice(b"Server: ");
        out.extend_from_slice(crate::SERVER.as_bytes());
        out.extend_from_slice(b"\r\nDate: ");
        out.extend_from_slice(&date::now());
        out.extend_from_slice(b"\r\nConnection: close\r\nContent-Type: text/html; charset=utf-8\r\n");
        out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        out.extend_from_slice(&body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_whole_and_holds_no_markup_of_the_clients() {
        let mut out = b"before".to_vec();
        Refusal::bad("invalid target \"<script>alert('&')</script>\"").response(&mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("beforeHTTP/1.1 400 Bad Request\r\nServer: rgunicorn\r\nDate: "), "{head}");
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        assert!(head.ends_with(&format!("\r\nContent-Length: {}", body.len())), "{head}");
        assert!(body.contains("&quot;&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;&quot;"), "{body}");
    }
}
