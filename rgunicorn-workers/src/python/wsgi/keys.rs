//! The constant keys of an environ, and values that recur: made once, interned, shared by all requests.

use pyo3::prelude::*;
use pyo3::types::PyString;

macro_rules! strings {
    ($($field:ident = $text:literal,)*) => {
        /// Interned strings, named after what they say.
        #[derive(Debug)]
        pub(super) struct Strings {
            $(pub(super) $field: Py<PyString>,)*
        }

        impl Strings {
            pub(super) fn new(py: Python<'_>) -> Self {
                Strings { $($field: PyString::intern(py, $text).unbind(),)* }
            }
        }
    };
}

strings! {
    request_method = "REQUEST_METHOD",
    query_string = "QUERY_STRING",
    raw_uri = "RAW_URI",
    server_protocol = "SERVER_PROTOCOL",
    path_info = "PATH_INFO",
    script_name = "SCRIPT_NAME",
    remote_addr = "REMOTE_ADDR",
    remote_port = "REMOTE_PORT",
    server_name = "SERVER_NAME",
    server_port = "SERVER_PORT",
    url_scheme = "wsgi.url_scheme",
    input = "wsgi.input",
    http = "http",
    https = "https",
    http_10 = "HTTP/1.0",
    http_11 = "HTTP/1.1",
    get = "GET",
    post = "POST",
}
