//! The scope: the dictionary that describes a request to an ASGI application.
//!
//! What is the same for all requests of a worker is in a template, which is copied. The keys and values are uvicorn's.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use rgunicorn_core::app::{Request, ServerAddress};
use rgunicorn_core::config::Config;
use rgunicorn_core::http::{AllowList, Scheme, Version};

use super::header_names::HeaderNames;
use super::lock;

/// The version of the specification's HTTP part that scopes name.
const SPEC_VERSION: &str = "2.3";

/// Makes scopes.
#[derive(Debug)]
pub(super) struct ScopeBuilder {
    /// What all scopes have.
    template: Py<PyDict>,
    asgi: Py<PyDict>,
    http_extensions: Py<PyDict>,
    websocket_extensions: Py<PyDict>,
    /// The lifespan's state, of which each request gets a copy.
    state: Py<PyDict>,
    root_path: String,
    trusted: AllowList,
    header_names: Mutex<HeaderNames>,
    /// The listeners' addresses as they were last asked for: there are few.
    servers: Mutex<Vec<(ServerAddress, Py<PyAny>)>>,
}

/// What a scope is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    WebSocket,
}

/// What the headers told about more than themselves.
#[derive(Default)]
struct Noted<'a> {
    forwarded_for: Vec<&'a [u8]>,
    subprotocols: Vec<&'a [u8]>,
}

impl ScopeBuilder {
    pub(super) fn new(py: Python<'_>, config: &Config, state: Py<PyDict>) -> PyResult<Self> {
        let asgi = PyDict::new(py);
        asgi.set_item("version", "3.0")?;
        asgi.set_item("spec_version", SPEC_VERSION)?;
        let extensions = |names: &[&str]| {
            let extensions = PyDict::new(py);
            names.iter().try_for_each(|name| extensions.set_item(name, PyDict::new(py)))?;
            PyResult::Ok(extensions.unbind())
        };
        let template = PyDict::new(py);
        // All keys, so that a copy has its final size.
        for key in [
            "type",
            "asgi",
            "http_version",
            "server",
            "client",
            "scheme",
            "root_path",
            "headers",
            "state",
            "method",
            "path",
            "raw_path",
            "query_string",
            "extensions",
        ] {
            template.set_item(PyString::intern(py, key), py.None())?;
        }
        let root_path = root_path(&config.root_path);
        template.set_item(intern!(py, "root_path"), &root_path)?;
        Ok(ScopeBuilder {
            template: template.unbind(),
            asgi: asgi.unbind(),
            http_extensions: extensions(&[
                "http.response.pathsend",
                "http.response.trailers",
                "http.response.early_hint",
            ])?,
            websocket_extensions: extensions(&["websocket.http.response"])?,
            state,
            root_path,
            trusted: config.forwarded_allow_ips.clone(),
            header_names: Mutex::default(),
            servers: Mutex::default(),
        })
    }

    /// The scope of a request. `local` is our end of the connection, where the listener's address doesn't say.
    pub(super) fn build<'py>(
        &self,
        py: Python<'py>,
        kind: Kind,
        request: &Request<'_>,
        local: Option<SocketAddr>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let scope = self.template.bind(py).copy()?;
        let (headers, noted) = self.headers(py, kind, request)?;
        scope.set_item(intern!(py, "headers"), headers)?;
        scope.set_item(intern!(py, "asgi"), self.asgi.bind(py).copy()?)?;
        scope.set_item(intern!(py, "state"), self.state.bind(py).copy()?)?;
        scope.set_item(intern!(py, "http_version"), http_version(py, request.version()))?;
        self.add_kind(&scope, kind, request, &noted)?;
        self.add_target(&scope, request)?;
        scope.set_item(intern!(py, "client"), self.client(py, request, &noted)?)?;
        scope.set_item(intern!(py, "server"), self.server(py, request.server(), local)?)?;
        Ok(scope)
    }

    fn headers<'py, 'a>(
        &self,
        py: Python<'py>,
        kind: Kind,
        request: &Request<'a>,
    ) -> PyResult<(Bound<'py, PyList>, Noted<'a>)> {
        let mut noted = Noted::default();
        let list = PyList::empty(py);
        for (name, value) in request.headers() {
            // Locked for as long as it takes to find a name: making a list or a tuple may run Python code.
            let name = lock(&self.header_names).get(py, name);
            match name.as_bytes() {
                b"x-forwarded-for" => noted.forwarded_for.push(value),
                b"sec-websocket-protocol" if kind == Kind::WebSocket => noted.subprotocols.push(value),
                _ => {}
            }
            list.append(PyTuple::new(py, [name, PyBytes::new(py, value)])?)?;
        }
        Ok((list, noted))
    }

    fn add_kind(
        &self,
        scope: &Bound<'_, PyDict>,
        kind: Kind,
        request: &Request<'_>,
        noted: &Noted<'_>,
    ) -> PyResult<()> {
        let py = scope.py();
        let secure = request.scheme() == Scheme::Https;
        let (name, scheme, extensions) = match (kind, secure) {
            (Kind::Http, false) => (intern!(py, "http"), intern!(py, "http"), &self.http_extensions),
            (Kind::Http, true) => (intern!(py, "http"), intern!(py, "https"), &self.http_extensions),
            (Kind::WebSocket, false) => {
                (intern!(py, "websocket"), intern!(py, "ws"), &self.websocket_extensions)
            }
            (Kind::WebSocket, true) => {
                (intern!(py, "websocket"), intern!(py, "wss"), &self.websocket_extensions)
            }
        };
        scope.set_item(intern!(py, "type"), name)?;
        scope.set_item(intern!(py, "scheme"), scheme)?;
        scope.set_item(intern!(py, "extensions"), extensions.bind(py).copy()?)?;
        if kind == Kind::Http {
            return match request.method() {
                b"GET" => scope.set_item(intern!(py, "method"), intern!(py, "GET")),
                b"POST" => scope.set_item(intern!(py, "method"), intern!(py, "POST")),
                other => scope.set_item(intern!(py, "method"), ascii(py, other)?),
            };
        }
        scope.del_item(intern!(py, "method"))?;
        let names = noted.subprotocols.iter().flat_map(|value| value.split(|byte| *byte == b','));
        let names = names.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty());
        let subprotocols = PyList::empty(py);
        for name in names {
            subprotocols.append(ascii(py, name)?)?;
        }
        scope.set_item(intern!(py, "subprotocols"), subprotocols)
    }

    /// Adds what the request line says. The path begins with the root path, whether or not the proxy has left it there.
    fn add_target(&self, scope: &Bound<'_, PyDict>, request: &Request<'_>) -> PyResult<()> {
        let py = scope.py();
        let raw = request.path();
        let path = decoded(py, raw)?;
        let root = self.root_path.as_str();
        let below = |path: &str| {
            path.strip_prefix(root).is_some_and(|rest| matches!(rest.as_bytes(), [] | [b'/', ..]))
        };
        if root.is_empty() || below(&path.to_cow()?) {
            scope.set_item(intern!(py, "path"), path)?;
            scope.set_item(intern!(py, "raw_path"), PyBytes::new(py, raw))?;
        } else {
            scope.set_item(intern!(py, "path"), format!("{root}{}", path.to_cow()?))?;
            scope.set_item(intern!(py, "raw_path"), PyBytes::new(py, &[root.as_bytes(), raw].concat()))?;
        }
        scope.set_item(intern!(py, "query_string"), PyBytes::new(py, request.query()))
    }

    /// The client's address and port: the peer's, or what a trusted proxy says.
    fn client<'py>(
        &self,
        py: Python<'py>,
        request: &Request<'_>,
        noted: &Noted<'_>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let peer = request.peer();
        if !noted.forwarded_for.is_empty() && self.trusted.allows(peer.ip()) {
            let hops = noted.forwarded_for.join(&b","[..]);
            let hops = String::from_utf8_lossy(&hops);
            let (host, port) = self.forwarded(&hops);
            if !host.is_empty() {
                return Ok(Some((host, port).into_pyobject(py)?.into_any()));
            }
        }
        match peer.port() {
            Some(port) => Ok(Some((peer.address(), port).into_pyobject(py)?.into_any())),
            None => Ok(None),
        }
    }

    /// The last of the hops that isn't a trusted proxy; the first if all are.
    fn forwarded<'a>(&self, hops: &'a str) -> (&'a str, u16) {
        let first = host_and_port(hops.split(',').next().unwrap_or_default().trim());
        if self.trusted.allows_everybody() {
            // Proxies may go by other names than addresses.
            return first;
        }
        hops.rsplit(',')
            .map(|hop| host_and_port(hop.trim()))
            .find(|(host, _)| !host.parse::<IpAddr>().is_ok_and(|ip| self.trusted.allows(Some(ip))))
            .unwrap_or(first)
    }

    /// Our end of the connection: address and port, or path and nothing.
    fn server(
        &self,
        py: Python<'_>,
        address: &ServerAddress,
        local: Option<SocketAddr>,
    ) -> PyResult<Py<PyAny>> {
        if let ServerAddress::Tcp(bound) = address
            && bound.ip().is_unspecified()
            && let Some(local) = local
        {
            return Ok((local.ip().to_canonical().to_string(), local.port())
                .into_pyobject(py)?
                .into_any()
                .unbind());
        }
        let known = |servers: &Vec<(ServerAddress, Py<PyAny>)>| {
            servers.iter().find(|(known, _)| known == address).map(|(_, server)| server.clone_ref(py))
        };
        if let Some(server) = known(&lock(&self.servers)) {
            return Ok(server);
        }
        let server = match address {
            ServerAddress::Tcp(address) => {
                (address.ip().to_string(), address.port()).into_pyobject(py)?.into_any()
            }
            ServerAddress::Unix(path) => {
                (path.to_string_lossy().replace('\0', "@"), py.None()).into_pyobject(py)?.into_any()
            }
        };
        lock(&self.servers).push((address.clone(), server.clone().unbind()));
        Ok(server.unbind())
    }
}

/// The root path as scopes have it, and as `SCRIPT_NAME` is: with a slash before it and none behind, or empty.
fn root_path(setting: &str) -> String {
    match setting.trim_matches('/') {
        "" => String::new(),
        path => format!("/{path}"),
    }
}

fn http_version(py: Python<'_>, version: Version) -> Bound<'_, PyString> {
    match version {
        Version::HTTP_11 => intern!(py, "1.1").clone(),
        Version::HTTP_10 => intern!(py, "1.0").clone(),
        Version { major, minor } => PyString::new(py, &format!("{major}.{minor}")),
    }
}

/// Text that the parser has let through as ASCII.
fn ascii<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    crate::python::wsgi::latin1(py, bytes)
}

/// The path without its percent-encoding, as UTF-8; what isn't UTF-8 becomes U+FFFD, as with uvicorn.
fn decoded<'py>(py: Python<'py>, path: &[u8]) -> PyResult<Bound<'py, PyString>> {
    match crate::python::wsgi::percent_decoded(path) {
        Cow::Borrowed(plain) if plain.is_ascii() => ascii(py, plain),
        decoded => {
            // SAFETY: pointer and length are those of a slice; the result is a new reference, or null with an exception.
            let text = unsafe {
                let text = ffi::PyUnicode_DecodeUTF8(
                    decoded.as_ptr().cast(),
                    decoded.len() as ffi::Py_ssize_t,
                    c"replace".as_ptr(),
                );
                Bound::from_owned_ptr_or_err(py, text)?
            };
            Ok(text.cast_into::<PyString>()?)
        }
    }
}

/// `1.2.3.4`, `1.2.3.4:80`, `[::1]:80`, `::1`: a port where there is one, else 0.
fn host_and_port(hop: &str) -> (&str, u16) {
    if let Some((host, rest)) = hop.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        return match (rest, rest.strip_prefix(':')) {
            ("", _) => (host, 0),
            (_, Some(port)) => (host, port.parse().unwrap_or(0)),
            _ => (hop, 0),
        };
    }
    match hop.split_once(':') {
        Some((host, port)) if !port.contains(':') => match port.parse() {
            Ok(port) => (host, port),
            Err(_) => (hop, 0),
        },
        _ => (hop, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_paths_are_as_script_names() {
        for (setting, path) in [
            ("", ""),
            ("/", ""),
            ("//", ""),
            ("/app", "/app"),
            ("/app/", "/app"),
            ("app", "/app"),
            ("/a/b//", "/a/b"),
        ] {
            assert_eq!(root_path(setting), path, "{setting}");
        }
    }

    #[test]
    fn hops_have_a_port_or_none() {
        for (hop, host, port) in [
            ("1.2.3.4", "1.2.3.4", 0),
            ("1.2.3.4:80", "1.2.3.4", 80),
            ("[::1]:80", "::1", 80),
            ("[::1]", "::1", 0),
            ("[::1]:x", "::1", 0),
            ("[::1]x", "[::1]x", 0),
            ("::1", "::1", 0),
            ("unknown", "unknown", 0),
            ("host:name", "host:name", 0),
        ] {
            assert_eq!(host_and_port(hop), (host, port), "{hop}");
        }
    }
}
