//! The `Date` header (RFC 9110 section 6.6.1), made once a second.
