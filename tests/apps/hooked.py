"""An application for tests of the server hooks, under WSGI (`wsgi`) and ASGI (`asgi`)."""

import os


def hang():
    """Computes without an end."""
    while True:
        pass


def wsgi(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/fails":
        raise ValueError("the application fails")
    if path == "/hangs":
        hang()
    start_response("200 Very Well", [("Content-Type", "text/plain"), ("X-Pid", str(os.getpid()))][:1])
    if path == "/pieces":
        return iter([b"one\n", b"two\n", b"three\n"])
    return [f"added: {environ.get('HTTP_X_ADDED')}\n".encode()]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only HTTP")
    if scope["path"] == "/fails":
        raise ValueError("the application fails")
    if scope["path"] == "/hangs":
        hang()
    added = dict(scope["headers"]).get(b"x-added", b"None")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"added: " + added + b"\n"})
