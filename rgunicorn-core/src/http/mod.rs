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
//! | [`response`] | a response head: what an application may say, and how the body will be framed |
//! | [`date`] | the `Date` header, made once a second |

pub mod body;
pub mod date;
pub mod head;
pub mod policy;
pub mod refusal;
pub mod response;

pub use body::{BodyDecoder, BodyFraming, Decoded};
pub use head::{HeadReader, Header, RequestHead, Scheme, Span, Version};
pub use policy::{AllowList, HeaderMap, Limits, Policy};
pub use refusal::Refusal;
pub use response::{Framing, InvalidResponse, ResponseHead};
