"""What `pre_request` and `post_request`, and the access log of a logger, are called with. Executed by requests.rs."""

import os
from urllib.parse import unquote

import _rgunicorn


class Request:
    """`req`."""

    def __init__(self, method, uri, path, query, version, scheme, headers, peer, proxied):
        self.method, self.uri, self.path, self.query, self.fragment = method, uri, path, query, ""
        self.version, self.scheme, self.headers, self.trailers = version, scheme, headers, []
        # For a Unix socket, as gunicorn has it: nothing.
        self.peer_addr = self.remote_addr = peer if peer[1] is not None else ""
        names = ("proxy_protocol", "client_addr", "client_port", "proxy_addr", "proxy_port")
        self.proxy_protocol_info = dict(zip(names, proxied)) if proxied else None
        self.body = None
        self.must_close = False
        self._original = list(headers)

    def get_header(self, name):
        wanted = name.upper()
        return next((value for name, value in self.headers if name == wanted), None)

    def should_close(self):
        connection = (self.get_header("CONNECTION") or "").lower().strip()
        if self.must_close or connection == "close":
            return True
        return connection != "keep-alive" and self.version <= (1, 0)

    def _changed(self):
        """The headers, if the hook has changed them."""
        return self.headers if self.headers != self._original else None


class Answer:
    """`resp`: what was answered."""

    def __init__(self, status, headers):
        self.status = status
        self.status_code = int(status.split(" ", 1)[0]) if status else None
        self.headers = headers
        self.headers_sent = status is not None
        length = next((value for name, value in headers if name.lower() == "content-length"), None)
        self.response_length = int(length) if length is not None and length.isdigit() else None
        self.sent = 0


def unanswered():
    """What `resp` is where the application has failed before it had started a response."""
    return Answer(None, [])


class Requests:
    """The hooks around each request, for one worker; with `logs`, the access log of a logger as well."""

    def __init__(self, server, logs):
        self.worker = server._worker
        self.process = os.getpid()
        self.log = server.log
        self.logs = logs or is_access_filtered(server.cfg)
        self.before = server._hooks.get("pre_request")
        self.after = server._hooks.get("post_request")

    def begin(self, *facts):
        request = Request(*facts)
        if self.before is not None:
            try:
                self.before(self.worker, request)
            except BaseException:
                if os.getpid() == self.process:
                    self.end(request, {}, None, 0, 0)
                raise
        self.worker.nr += 1
        return request

    def end(self, request, environ, answer, sent, micros):
        if answer is not None:
            answer.sent = sent
            # The server sees to those that the application has not answered.
            if self.logs and answer.status is not None:
                log_access(self.log, answer, request, environ, micros)
        if self.after is not None:
            try:
                self.after(self.worker, request, environ, answer)
            except BaseException:
                self.log.error("Exception in post_request hook", exc_info=True)


def is_access_filtered(cfg):
    """Whether hooks have put a filter on the access log: then it is to be asked. Lines of JSON are not made in Python."""
    return bool(cfg.accesslog and not cfg.access_log_json and _rgunicorn.ours("_handlers").is_access_changed())


def log_access(log, answer, request, environ, micros):
    from datetime import timedelta

    if request.path in log.cfg.access_log_skip:
        return
    try:
        log.access(answer, request, environ, timedelta(microseconds=micros))
    except Exception:
        log.error("Error in the access log", exc_info=True)


def log_unseen(log, facts, status, headers, sent, micros):
    """The access line of a request that the application has not answered, or not by HTTP."""
    from http import HTTPStatus

    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    request = Request(*facts)
    answer = Answer(f"{status} {reason}".strip(), headers)
    answer.sent = sent
    log_access(log, answer, request, environ_of(request), micros)


def environ_of(request):
    """An environ for the hooks of an ASGI application."""
    peer = request.peer_addr or ("", "")
    environ = {
        "REQUEST_METHOD": request.method,
        "RAW_URI": request.uri,
        "PATH_INFO": unquote(request.path, encoding="latin-1"),
        "QUERY_STRING": request.query,
        "SERVER_PROTOCOL": "HTTP/%d.%d" % request.version,
        "REMOTE_ADDR": peer[0],
        "REMOTE_PORT": str(peer[1]),
        "wsgi.url_scheme": request.scheme,
    }
    change_environ(environ, request.headers)
    return environ


def change_environ(environ, headers):
    """Has a WSGI environ say what the headers are now."""
    for key in [key for key in environ if key.startswith("HTTP_")]:
        del environ[key]
    for name, value in headers:
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
            value = f"{environ[key]},{value}" if key in environ else value
        environ[key] = str(value)


def change_scope(scope, headers):
    """Has an ASGI scope say what the headers are now."""
    scope["headers"] = [(name.lower().encode("latin-1"), str(value).encode("latin-1")) for name, value in headers]
