//! The environ: the dictionary that describes a request (PEP 3333, "environ Variables").
//!
//! What is the same for all requests of a worker is put into a template once, and copied. All text is latin-1, as the
//! PEP has it, and decoded from the engine's buffer. The keys and values are gunicorn's.

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use rgunicorn_core::SERVER_SOFTWARE;
use rgunicorn_core::app::{AppError, Request, ServerAddress};
use rgunicorn_core::http::{Scheme, Version};

use super::WsgiSettings;
use super::errors::Errors;
use super::file_wrapper::FileWrapper;
use super::header_names::{HeaderNames, Meaning};
use super::input::Input;
use super::interned::intern;
use super::keys::Strings;
use super::latin1::{decode, encode};
use super::upgrade;
use crate::python::failure;

/// Makes environs.
#[derive(Debug)]
pub(super) struct EnvironBuilder {
    template: Py<PyDict>,
    strings: Strings,
    /// Whether the application may have the sockets of clients that ask for another protocol.
    upgrades: bool,
    sockets: upgrade::Sockets,
    /// `SCRIPT_NAME` of the process, for an application that isn't at the root.
    script_name: Vec<u8>,
    header_names: Mutex<HeaderNames>,
    /// The listeners' addresses as they were last asked for: there are few.
    servers: Mutex<Vec<Server>>,
}

/// A listener's address, and its `SERVER_NAME` and `SERVER_PORT`.
type Server = (ServerAddress, Py<PyString>, Py<PyString>);

/// What the headers told about more than themselves.
#[derive(Default)]
struct Noted<'a> {
    host: Option<&'a [u8]>,
    script_name: Option<&'a [u8]>,
    upgrade: bool,
}

impl EnvironBuilder {
    pub(super) fn new(py: Python<'_>, settings: WsgiSettings) -> PyResult<Self> {
        let template = PyDict::new(py);
        template.set_item(intern!(py, "wsgi.version"), PyTuple::new(py, [1, 0])?)?;
        template.set_item(intern!(py, "wsgi.errors"), Bound::new(py, Errors::default())?)?;
        template.set_item(intern!(py, "wsgi.multithread"), settings.multithread)?;
        template.set_item(intern!(py, "wsgi.multiprocess"), settings.multiprocess)?;
        template.set_item(intern!(py, "wsgi.run_once"), false)?;
        template.set_item(intern!(py, "wsgi.file_wrapper"), py.get_type::<FileWrapper>())?;
        template.set_item(intern!(py, "wsgi.input_terminated"), true)?;
        template.set_item(intern!(py, "SERVER_SOFTWARE"), SERVER_SOFTWARE)?;
        // Read here and not for each request; the application has been imported and may have set it.
        let variables = py.import("os")?.getattr("environ")?;
        let script_name = variables.call_method1("get", ("SCRIPT_NAME", ""))?.cast_into::<PyString>()?;
        Ok(EnvironBuilder {
            template: template.unbind(),
            strings: Strings::new(py),
            upgrades: settings.upgrades,
            sockets: upgrade::Sockets::default(),
            script_name: encode(&script_name, "the environment variable SCRIPT_NAME")?.to_vec(),
            header_names: Mutex::default(),
            servers: Mutex::default(),
        })
    }

    /// The environ of a request, whose body it takes.
    ///
    /// # Errors
    /// [`AppError::Failed`] for a path outside of `SCRIPT_NAME`: a problem of the configuration, as in gunicorn.
    pub(super) fn build<'py>(
        &self,
        py: Python<'py>,
        request: &mut Request<'_>,
    ) -> Result<Bound<'py, PyDict>, AppError> {
        let fail = |error: PyErr| failure::app_error(py, &error);
        let environ = self.template.bind(py).copy().map_err(fail)?;
        let noted = self.add_headers(&environ, request).map_err(fail)?;
        let script_name = noted.script_name.unwrap_or(&self.script_name);
        let Some(path) = request.path().strip_prefix(script_name) else {
            return Err(AppError::Failed {
                report: format!(
                    "The path {:?} does not begin with SCRIPT_NAME, which is {:?}",
                    String::from_utf8_lossy(request.path()),
                    String::from_utf8_lossy(script_name),
                ),
            });
        };
        self.add_target(&environ, request, script_name, path).map_err(fail)?;
        self.add_ends(&environ, request, noted.host).map_err(fail)?;
        if noted.upgrade && self.upgrades {
            self.sockets.add(&environ, request).map_err(fail)?;
        }
        let input = Bound::new(py, Input::of(py, request)).map_err(fail)?;
        environ.set_item(&self.strings.input, input).map_err(fail)?;
        Ok(environ)
    }

    fn add_headers<'a>(&self, environ: &Bound<'_, PyDict>, request: &Request<'a>) -> PyResult<Noted<'a>> {
        let py = environ.py();
        let mut noted = Noted::default();
        // No Python code runs while this is locked: strings are all that is made here.
        let mut names = lock(&self.header_names);
        for (name, value) in request.headers() {
            let (meaning, key) = names.get(py, name);
            let text = decode(py, value)?;
            match meaning {
                Meaning::Content => {
                    environ.set_item(key, text)?;
                    continue;
                }
                Meaning::Host => noted.host = Some(value),
                Meaning::ScriptName => noted.script_name = Some(value),
                Meaning::Upgrade => noted.upgrade = true,
                Meaning::Plain => {}
            }
            add_or_join(environ, &key, &text, value)?;
        }
        Ok(noted)
    }

    /// Adds what the request line says.
    fn add_target(
        &self,
        environ: &Bound<'_, PyDict>,
        request: &Request<'_>,
        script_name: &[u8],
        path: &[u8],
    ) -> PyResult<()> {
        let py = environ.py();
        let s = &self.strings;
        match request.method() {
            b"GET" => environ.set_item(&s.request_method, &s.get)?,
            b"POST" => environ.set_item(&s.request_method, &s.post)?,
            other => environ.set_item(&s.request_method, decode(py, other)?)?,
        }
        environ.set_item(&s.raw_uri, decode(py, request.target())?)?;
        environ.set_item(&s.query_string, decode(py, request.query())?)?;
        environ.set_item(&s.path_info, decode(py, &percent_decoded(path))?)?;
        environ.set_item(&s.script_name, decode(py, script_name)?)?;
        match request.version() {
            Version::HTTP_11 => environ.set_item(&s.server_protocol, &s.http_11)?,
            Version::HTTP_10 => environ.set_item(&s.server_protocol, &s.http_10)?,
            Version { major, minor } => {
                environ.set_item(&s.server_protocol, format!("HTTP/{major}.{minor}"))?
            }
        }
        let scheme = if request.scheme() == Scheme::Https { &s.https } else { &s.http };
        environ.set_item(&s.url_scheme, scheme)
    }

    /// Adds who is at the two ends of the connection.
    fn add_ends(
        &self,
        environ: &Bound<'_, PyDict>,
        request: &Request<'_>,
        host: Option<&[u8]>,
    ) -> PyResult<()> {
        let py = environ.py();
        let s = &self.strings;
        environ.set_item(&s.remote_addr, decode(py, request.peer().address().as_bytes())?)?;
        if let Some(port) = request.peer().port() {
            environ.set_item(&s.remote_port, port.to_string())?;
        }
        if let Some(proxied) = request.proxied() {
            environ.set_item(intern!(py, "PROXY_PROTOCOL"), proxied.protocol())?;
            environ.set_item(intern!(py, "PROXY_ADDR"), proxied.server.ip().to_string())?;
            environ.set_item(intern!(py, "PROXY_PORT"), proxied.server.port().to_string())?;
        }
        match (request.server(), host) {
            // A Unix socket has no name that a URL could be made of: what the client asked for has.
            (ServerAddress::Unix(_), Some(host)) => {
                let (name, port) = split_host(host, request.scheme());
                environ.set_item(&s.server_name, decode(py, name)?)?;
                environ.set_item(&s.server_port, decode(py, port)?)
            }
            (server, _) => {
                let (name, port) = self.server(py, server)?;
                environ.set_item(&s.server_name, name)?;
                environ.set_item(&s.server_port, port)
            }
        }
    }

    /// The name and the port of a listener.
    fn server(&self, py: Python<'_>, address: &ServerAddress) -> PyResult<(Py<PyString>, Py<PyString>)> {
        let mut servers = lock(&self.servers);
        if let Some((_, name, port)) = servers.iter().find(|(known, ..)| known == address) {
            return Ok((name.clone_ref(py), port.clone_ref(py)));
        }
        let (name, port) = match address {
            ServerAddress::Tcp(address) => (address.ip().to_string(), address.port().to_string()),
            ServerAddress::Unix(path) => (path.to_string_lossy().replace('\0', "@"), String::new()),
        };
        let (name, port) = (PyString::new(py, &name).unbind(), PyString::new(py, &port).unbind());
        servers.push((address.clone(), name.clone_ref(py), port.clone_ref(py)));
        Ok((name, port))
    }
}

/// Adds a header, behind a comma where the environ has it already (RFC 9110 section 5.3).
fn add_or_join(
    environ: &Bound<'_, PyDict>,
    key: &Bound<'_, PyString>,
    text: &Bound<'_, PyString>,
    value: &[u8],
) -> PyResult<()> {
    let py = environ.py();
    let before = environ.len();
    // SAFETY: attached; a dictionary and two objects; the result is borrowed from the dictionary, or null with an
    // exception.
    let present = unsafe {
        let present = ffi::PyDict_SetDefault(environ.as_ptr(), key.as_ptr(), text.as_ptr());
        Bound::from_borrowed_ptr_or_err(py, present)?
    };
    // Not by identity: CPython has only one string of each single character.
    if environ.len() > before {
        return Ok(());
    }
    let present = present.cast_into::<PyString>()?;
    let joined = [encode(&present, "a header")?, b",", value].concat();
    environ.set_item(key, decode(py, &joined)?)
}

/// The name and the port in a `Host` header; the port of the scheme where there is none.
fn split_host(host: &[u8], scheme: Scheme) -> (&[u8], &[u8]) {
    // The colons inside of an IPv6 address's brackets separate nothing.
    let bracket = host.iter().rposition(|byte| *byte == b']').map_or(0, |position| position + 1);
    let colon = host.iter().skip(bracket).position(|byte| *byte == b':').map(|position| position + bracket);
    match colon.and_then(|colon| host.split_at_checked(colon)) {
        Some((name, port)) => (name, port.strip_prefix(b":").unwrap_or(port)),
        None if scheme == Scheme::Https => (host, b"443"),
        None => (host, b"80"),
    }
}

/// Decodes `%41` and the like; what only looks like it stays as it is.
pub(in crate::python) fn percent_decoded(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.contains(&b'%') {
        return Cow::Borrowed(path);
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%'
            && let [high, low, behind @ ..] = tail
            && let (Some(high), Some(low)) = ((*high as char).to_digit(16), (*low as char).to_digit(16))
        {
            decoded.push((high * 16 + low) as u8);
            rest = behind;
        } else {
            decoded.push(*first);
        }
    }
    Cow::Owned(decoded)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_escapes_are_decoded() {
        for (path, decoded) in [
            ("/plain", &b"/plain"[..]),
            ("/%41%2f%C3%a4", b"/A/\xc3\xa4"),
            ("/100%", b"/100%"),
            ("/%4", b"/%4"),
            ("/%zz%%41", b"/%zz%A"),
            ("/%+1%-1", b"/%+1%-1"),
        ] {
            assert_eq!(&*percent_decoded(path.as_bytes()), decoded, "{path}");
        }
    }

    #[test]
    fn a_host_is_split_at_its_port() {
        for (host, scheme, name, port) in [
            ("example.com", Scheme::Http, "example.com", "80"),
            ("example.com", Scheme::Https, "example.com", "443"),
            ("example.com:8000", Scheme::Https, "example.com", "8000"),
            ("[::1]", Scheme::Http, "[::1]", "80"),
            ("[::1]:8000", Scheme::Http, "[::1]", "8000"),
        ] {
            assert_eq!(split_host(host.as_bytes(), scheme), (name.as_bytes(), port.as_bytes()), "{host}");
        }
    }
}
