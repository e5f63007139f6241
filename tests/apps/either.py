"""Makes a WSGI application one of ASGI as well, so that class `asgi` is held to the same promises as all others.

Like the classes of one thread it calls the application in that thread: what blocks there blocks the worker.
"""

import sys
import tempfile


class Either:
    """Called with two arguments it is a WSGI application, with three an ASGI application."""

    def __init__(self, wsgi):
        self.wsgi = wsgi

    def __call__(self, *call):
        return self.wsgi(*call) if len(call) == 2 else self.asgi(*call)

    async def asgi(self, scope, receive, send):
        if scope["type"] != "http":
            return
        with tempfile.SpooledTemporaryFile(1 << 20) as body:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body.write(message["body"])
                more = message["more_body"]
            body.seek(0)
            await answer(self.wsgi, environ_of(scope, body), send)


async def answer(wsgi, environ, send):
    start, written = [], []

    def start_response(status, headers, exc_info=None):
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        start[:] = [{"type": "http.response.start", "status": int(status[:3]), "headers": fields}]
        return written.append

    result = wsgi(environ, start_response)
    try:
        pieces = iter(result)
        while (piece := next(pieces, None)) is not None or written:
            for message in start:
                await send(message)
            start.clear()
            for piece in [*written, *([piece] if piece is not None else [])]:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            written.clear()
        for message in start:
            await send(message)
        await send({"type": "http.response.body"})
    finally:
        if hasattr(result, "close"):
            result.close()


def environ_of(scope, body):
    client, (host, port) = scope["client"], scope["server"]
    if port is None:
        # On a Unix socket a server has no name but that which it is called by.
        named = dict(scope["headers"]).get(b"host", b"localhost").decode().partition(":")
        host, port = named[0], named[2] or 80
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "REMOTE_ADDR": client[0] if client else "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        name = name.decode("latin-1").upper().replace("-", "_")
        if name not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            name = f"HTTP_{name}"
        value = value.decode("latin-1")
        environ[name] = f"{environ[name]},{value}" if name in environ else value
    return environ
