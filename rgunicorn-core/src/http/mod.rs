//! HTTP/1 without I/O (RFC 9110 and 9112): bytes in, requests and events out.
//!
//! What may live here: grammar, framing, limits, refusals. What may not: sockets, clocks other than the `Date`
//! header's, worker classes, Python. Everything can be tested with a byte string.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`head`] | a request head: found in a buffer, parsed, checked |
//! | [`body`] | a request body's framing: Content-Length and chunked |
//! | [`policy`] | limits, relaxing settings, whom we trust |
//! | [`refusal`] | why a request is refused, and with which status |
//! | [`proxy`] | the PROXY protocol: who a proxy speaks for |
//! | [`response`] | a response head: what an application may say, and how the body will be framed |
//! | [`date`] | the `Date` header, made once a second |
//!
//! Within: `scan` finds the lines of a head, `request_line` and `fields` take them apart, `meaning` and `framing` make
//! sense of them, `chunked` undoes the chunked coding, and `grammar` has what they share.

pub mod body;
mod chunked;
pub mod date;
mod fields;
mod framing;
mod grammar;
pub mod head;
mod meaning;
pub mod policy;
pub mod proxy;
pub mod refusal;
mod request_line;
pub mod response;
mod scan;

pub use body::{BodyDecoder, BodyFraming, Decoded};
pub use head::{HeadReader, Header, RequestHead, Scheme, Span, Version};
pub use policy::{AllowList, HeaderMap, Limits, Policy};
pub use refusal::Refusal;
pub use response::{Circumstances, Framing, Informational, InvalidResponse, ResponseHead};
