//! `%({name}e)s` of the access log: the variables that a WSGI application would have of the request, as gunicorn's own
//! ASGI worker names them: in lower case, however the format spells them.

use rgunicorn_core::app::{Request, Response, ServerAddress};
use rgunicorn_core::http::Scheme;

/// Tells the access log the variables that it asks for.
pub(super) fn note(names: &[String], request: &Request<'_>, response: &mut Response) {
    for (index, name) in names.iter().enumerate() {
        if let Some(value) = value(name, request) {
            response.set_variable(index, value);
        }
    }
}

fn value(name: &str, request: &Request<'_>) -> Option<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = |name: &str| request.header(&name.replace('_', "-")).map(text);
    Some(match name {
        "request_method" => text(request.method()),
        "raw_uri" => text(request.target()),
        "path_info" => text(&crate::python::wsgi::percent_decoded(request.path())),
        "query_string" => text(request.query()),
        "server_protocol" => format!("HTTP/{}.{}", request.version().major, request.version().minor),
        "remote_addr" => request.peer().address().into(),
        "remote_port" => request.peer().port()?.to_string(),
        "server_name" => match request.server() {
            ServerAddress::Tcp(address) => address.ip().to_string(),
            ServerAddress::Unix(path) => path.to_string_lossy().replace('\0', "@"),
        },
        "server_port" => match request.server() {
            ServerAddress::Tcp(address) => address.port().to_string(),
            ServerAddress::Unix(_) => return None,
        },
        "wsgi.url_scheme" => if request.scheme() == Scheme::Https { "https" } else { "http" }.into(),
        "content_type" | "content_length" => header(name)?,
        _ => header(name.strip_prefix("http_")?)?,
    })
}
