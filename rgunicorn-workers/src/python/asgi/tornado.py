"""tornado's applications as ASGI applications. Executed by boot.rs."""

import asyncio


class Problem(Exception):
    """Something that a sentence explains better than a traceback."""


def prepare():
    """Imports tornado, as far as it is there: who asks for it is told where it is needed."""
    try:
        import tornado.httputil
        import tornado.websocket  # noqa: F401
    except ImportError:
        pass


def adapt(application, load):
    """An ASGI application that does what tornado's own server would have this one do; None where it is one of WSGI.
    `load` makes the module of tornado_websocket.py."""
    try:
        from tornado import httputil, iostream
    except ImportError as error:
        raise Problem(
            f"worker_class tornado needs a library that can't be imported ({error}): pip install tornado;"
            " class coro runs WSGI applications and needs none"
        ) from None

    if not isinstance(application, httputil.HTTPServerConnectionDelegate):
        return None

    websockets = load()
    websockets.install()

    class Connection(httputil.HTTPConnection):
        """What tornado writes its response to: messages, sent one after the other."""

        def __init__(self, scope):
            self.context = Context(scope)
            self.messages = asyncio.Queue()
            self.close_callback = None
            self.gone = False

        def put(self, *messages):
            sent = asyncio.get_running_loop().create_future()
            self.messages.put_nowait((messages, sent))
            return sent

        def write_headers(self, start_line, headers, chunk=None):
            fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.get_all()]
            start = {"type": "http.response.start", "status": start_line.code, "headers": fields}
            return self.put(start, *([piece(chunk)] if chunk else []))

        def write(self, chunk):
            return self.put(piece(chunk))

        def finish(self):
            self.put({"type": "http.response.body"})

        def set_close_callback(self, callback):
            self.close_callback = callback

        async def send_all(self, send):
            ended = False
            while not ended:
                messages, sent = await self.messages.get()
                waiters = [sent]
                while not self.messages.empty():
                    # One write for all that is there.
                    more, sent = self.messages.get_nowait()
                    messages += more
                    waiters.append(sent)
                for message in joined(messages):
                    ended = message["type"] == "http.response.body" and not message.get("more_body")
                    await self.send(send, message)
                for sent in waiters:
                    if sent.done():
                        continue
                    if self.gone:
                        sent.set_exception(iostream.StreamClosedError())
                        sent.exception()  # Nobody has to ask.
                    else:
                        sent.set_result(None)

        async def send(self, send, message):
            if not self.gone:
                try:
                    await send(message)
                except OSError:
                    self.gone = True

        async def watch(self, receive):
            while (await receive())["type"] != "http.disconnect":
                pass
            if self.close_callback is not None:
                callback, self.close_callback = self.close_callback, None
                callback()

    async def start(scope, connection):
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        method = scope.get("method", "GET")
        line = httputil.RequestStartLine(method, target.decode("latin-1"), "HTTP/" + scope["http_version"])
        headers = httputil.HTTPHeaders()
        for name, value in scope["headers"]:
            headers.add(name.decode("latin-1"), value.decode("latin-1"))
        delegate = application.start_request(None, connection)
        await maybe(delegate.headers_received(line, headers))
        return delegate

    async def asgi(scope, receive, send):
        if scope["type"] == "websocket":

            async def handshake(connection):
                (await start(scope, connection)).finish()

            await websockets.serve(handshake, Context(scope), receive, send)
            return
        connection = Connection(scope)
        delegate = await start(scope, connection)
        async for chunk in chunks(receive):
            await maybe(delegate.data_received(chunk))
        delegate.finish()
        watcher = asyncio.ensure_future(connection.watch(receive))
        try:
            await connection.send_all(send)
        finally:
            watcher.cancel()

    return asgi


class Context:
    def __init__(self, scope):
        self.remote_ip = scope["client"][0] if scope["client"] else ""
        self.protocol = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])


async def maybe(value):
    if value is not None:
        await value


async def chunks(receive):
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError
        if message.get("body"):
            yield message["body"]
        more = message.get("more_body", False)


def piece(chunk):
    return {"type": "http.response.body", "body": bytes(chunk), "more_body": True}


def joined(messages):
    """A last piece of a body, and the end behind it, are one message."""
    *others, last = messages
    if others and "body" not in last and others[-1].get("more_body"):
        others[-1] = {**others[-1], "more_body": False}
        return others
    return messages
