"""tornado's WebSocket handlers, on the messages of an ASGI connection. Executed by boot.rs."""

import asyncio
import json
import sys

from tornado import httputil, websocket

# What the handshake is made of is the server's to write.
OURS = {"connection", "upgrade", "content-length", "date", "server", "sec-websocket-accept", "sec-websocket-protocol"}


# How many messages may be on their way to a client before it isn't listened to any more.
MOST = 64


class Connection(httputil.HTTPConnection):
    """What a handler answers the handshake with, and sends its messages to."""

    def __init__(self, context, receive):
        self.context = context
        self.receive = receive
        self.messages = asyncio.Queue()
        self.last = None
        self.accepted = False

    def put(self, message):
        sent = self.last = asyncio.get_running_loop().create_future()
        self.messages.put_nowait((message, sent))
        return sent

    async def room(self):
        """Waits for a client to take what was sent, if that is much: a handler need not wait for what it writes."""
        if self.messages.qsize() > MOST:
            await asyncio.wait([self.last])

    def end(self):
        self.messages.put_nowait((None, None))

    def write_headers(self, start_line, headers, chunk=None):
        if start_line.code == 101:
            self.accepted = True
            fields = [pair for pair in encoded(headers) if pair[0].decode("latin-1").lower() not in OURS]
            protocol = headers.get("Sec-WebSocket-Protocol")
            return self.put({"type": "websocket.accept", "subprotocol": protocol, "headers": fields})
        start = {"type": "websocket.http.response.start", "status": start_line.code, "headers": encoded(headers)}
        sent = self.put(start)
        return self.write(chunk) if chunk else sent

    def write(self, chunk):
        return self.put({"type": "websocket.http.response.body", "body": bytes(chunk), "more_body": True})

    def finish(self):
        if not self.accepted:
            self.put({"type": "websocket.http.response.body", "body": b""})
            self.end()

    def set_close_callback(self, callback):
        """The protocol tells the handler itself."""

    async def send_all(self, send):
        while True:
            message, sent = await self.messages.get()
            if message is None:
                return
            try:
                await send(message)
            except Exception:
                if not sent.done():
                    sent.set_exception(websocket.WebSocketClosedError())
                    sent.exception()  # Nobody has to ask.
            else:
                if not sent.done():
                    sent.set_result(None)


def encoded(headers):
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.get_all()]


class Protocol(websocket.WebSocketProtocol):
    """In the place of tornado's own, which would have the socket."""

    selected_subprotocol = None

    def __init__(self, handler, connection):
        super().__init__(handler)
        self.connection = connection

    async def accept_connection(self, handler):
        try:
            offered = handler.request.headers.get("Sec-WebSocket-Protocol", "")
            self.selected_subprotocol = handler.select_subprotocol([name.strip() for name in offered.split(",") if name.strip()])
            handler.clear_header("Content-Type")
            if self.selected_subprotocol:
                handler.set_header("Sec-WebSocket-Protocol", self.selected_subprotocol)
            handler.set_status(101)
            handler.finish()
            try:
                opened = handler.open(*handler.open_args, **handler.open_kwargs)
                if opened is not None:
                    await opened
            except Exception:
                handler.log_exception(*sys.exc_info())
                self.close(1011)
            await self._receive_frame_loop()
        finally:
            if self.connection.accepted:
                self.connection.end()

    async def _receive_frame_loop(self):
        code = reason = None
        while not self.client_terminated:
            await self.connection.room()
            message = await self.connection.receive()
            if message["type"] == "websocket.disconnect":
                # 1005 says that there was none.
                code, reason = message.get("code"), message.get("reason") or None
                self.client_terminated = True
            elif not self.server_terminated:
                text = message.get("text")
                handled = self._run_callback(self.handler.on_message, message.get("bytes") if text is None else text)
                if handled is not None:
                    await handled
        self.handler.on_ws_connection_close(None if code == 1005 else code, reason)

    def write_message(self, message, binary=False):
        if self.is_closing():
            raise websocket.WebSocketClosedError()
        if isinstance(message, dict):
            message = json.dumps(message).replace("</", "<\\/")
        if binary:
            data = message.encode() if isinstance(message, str) else bytes(message)
            return self.connection.put({"type": "websocket.send", "bytes": data})
        text = message if isinstance(message, str) else bytes(message).decode()
        return self.connection.put({"type": "websocket.send", "text": text})

    def close(self, code=None, reason=None):
        if not self.server_terminated:
            self.server_terminated = True
            if not self.client_terminated:
                self.connection.put({"type": "websocket.close", "code": code or 1000, "reason": reason or ""})

    def _abort(self):
        self.close(1011)

    def is_closing(self):
        return self.client_terminated or self.server_terminated

    def write_ping(self, data):
        """The server pings by itself."""

    def start_pinging(self):
        """The server pings by itself."""

    def set_nodelay(self, value):
        """It is set on every connection."""

    def _process_server_headers(self, key, headers):
        raise NotImplementedError("this is a server")


def install():
    """Has handlers whose connection is one of ours use our protocol."""
    original = websocket.WebSocketHandler.get_websocket_protocol

    def get_websocket_protocol(self):
        connection = self.request.connection
        return Protocol(self, connection) if isinstance(connection, Connection) else original(self)

    websocket.WebSocketHandler.get_websocket_protocol = get_websocket_protocol


async def serve(start, context, receive, send):
    """Serves one connection; `start` hands the request to the application."""
    message = await receive()
    if message["type"] != "websocket.connect":
        return
    connection = Connection(context, receive)
    await start(connection)
    await connection.send_all(send)
