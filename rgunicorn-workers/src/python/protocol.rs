//! Which protocol an application speaks: an application of ASGI is told where it is loaded that its class can't serve it, and
//! not by a `TypeError` with each request. (`serve.py` has the same for the other way round.)

use pyo3::prelude::*;
use rgunicorn_core::worker::BootError;

use super::{failure, load};

/// Whether an application is one of ASGI, as far as that can be told without calling it.
///
/// # Errors
/// An exception of Python's own.
pub(crate) fn is_asgi(application: &Bound<'_, PyAny>) -> PyResult<bool> {
    let helper = load::helper(application.py(), include_str!("protocol.py"), "rgunicorn_protocol")?;
    helper.call_method1("is_asgi", (application,))?.is_truthy()
}

/// Refuses an application of ASGI for a class that serves those of WSGI.
///
/// # Errors
/// [`BootError::Boot`], which says what it is and what runs it.
pub(crate) fn refuse_asgi(application: &Bound<'_, PyAny>, class: &str) -> Result<(), BootError> {
    let py = application.py();
    match is_asgi(application) {
        Ok(false) => Ok(()),
        Ok(true) => {
            let shown = application.repr().map_or_else(|_| "it".into(), |text| text.to_string());
            Err(BootError::Boot(format!(
                "{shown} is an ASGI application, and class {class} serves WSGI applications: class asgi runs it (-k asgi, or \
                 worker_class = \"asgi\")"
            )))
        }
        Err(error) => Err(BootError::Boot(failure::report(py, &error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::testing::{attached, get};

    const APPLICATIONS: &str = r#"
import functools


def wsgi(environ, start_response): pass
def wsgi_any(*call): pass
def wsgi_more(environ, start_response, option=None): pass
async def asgi(scope, receive, send): pass
def returns_asgi(scope, receive, send): return asgi(scope, receive, send)


class Wsgi:
    def __call__(self, environ, start_response): pass
    def method(self, environ, start_response): pass
    async def asgi(self, scope, receive, send): pass


class Eager:
    """Has everything, and all of it is like itself."""

    def __getattr__(self, name): return self
    def __len__(self): return 0
    def __call__(self, environ, start_response): pass


class Absent:
    def __getattr__(self, name): raise RuntimeError("it isn't there yet")
    def __call__(self, environ, start_response): pass


class WsgiClass:
    def __init__(self, environ, start_response): pass
    def __iter__(self): pass


class Asgi:
    async def __call__(self, scope, receive, send): pass


class Asgi2:
    def __init__(self, scope): pass
    async def __call__(self, receive, send): pass


class Awaited:
    def __init__(self, scope, receive, send): pass
    def __await__(self): pass


wsgi_of = [wsgi, wsgi_any, wsgi_more, Wsgi(), Wsgi().method, WsgiClass, functools.partial(wsgi_more, option=1),
           functools.partial(lambda first, environ, start_response: 0, 1), print, object(), dict, len, Absent(), Eager()]
asgi_of = [asgi, returns_asgi, Asgi(), Wsgi().asgi, Asgi2, Awaited, functools.partial(asgi), functools.partial(Asgi()),
           functools.partial(lambda first, scope, receive, send: 0, 1)]
"#;

    #[test]
    fn applications_are_told_apart() {
        attached(|py| {
            for (name, expected) in [("wsgi_of", false), ("asgi_of", true)] {
                for application in get(py, APPLICATIONS, name).try_iter().unwrap() {
                    let application = application.unwrap();
                    assert_eq!(is_asgi(&application).unwrap(), expected, "{application}");
                    assert_eq!(refuse_asgi(&application, "sync").is_err(), expected);
                }
            }
        });
    }
}
