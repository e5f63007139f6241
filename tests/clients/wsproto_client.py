"""WebSockets of `tests/apps/asgi.py`, spoken by wsproto, in frames of all shapes."""

import os
import socket
import sys
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, RejectConnection, RejectData, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

URL = urlsplit(sys.argv[1])


class Socket:
    def __init__(self, path, extensions=()):
        self.socket = socket.create_connection((URL.hostname, URL.port), 20)
        self.connection = WSConnection(ConnectionType.CLIENT)
        self.events = iter(())
        self.send(Request(host="test", target=path, extensions=list(extensions)))

    def send(self, *events):
        self.socket.sendall(b"".join(self.connection.send(event) for event in events))

    def event(self):
        while True:
            for event in self.events:
                return event
            data = self.socket.recv(65536)
            self.connection.receive_data(data or None)
            self.events = self.connection.events()

    def message(self):
        parts = []
        while True:
            event = self.event()
            if isinstance(event, Pong):
                continue
            parts.append(event.data)
            if event.message_finished:
                return (b"" if isinstance(event, BytesMessage) else "").join(parts)


offers = [
    [],
    [PerMessageDeflate()],
    [PerMessageDeflate(client_no_context_takeover=True, server_no_context_takeover=True)],
    [PerMessageDeflate(client_max_window_bits=9)],
    [PerMessageDeflate(server_max_window_bits=9)],
    [PerMessageDeflate(client_max_window_bits=10, server_max_window_bits=12)],
]
text = "Grüße, 世界 " * 3000
for extensions in offers:
    client = Socket("/echo", extensions)
    accepted = client.event()
    assert isinstance(accepted, AcceptConnection), accepted
    assert bool(accepted.extensions) == bool(extensions), (accepted, extensions)
    for _ in range(3):
        client.send(TextMessage(text))
        assert client.message() == text
        data = os.urandom(100_000) + bytes(100_000)
        # In pieces, with pings between them.
        for start in range(0, len(data), 9_999):
            last = start + 9_999 >= len(data)
            client.send(Ping(b"there?"), BytesMessage(data[start : start + 9_999], message_finished=last))
        assert client.message() == data
    client.send(CloseConnection(4321, "enough"))
    closed = client.event()
    while isinstance(closed, Pong):
        closed = client.event()
    assert isinstance(closed, CloseConnection) and closed.code == 4321, closed
    assert client.socket.recv(10) == b""

client = Socket("/reject")
refused = client.event()
assert isinstance(refused, RejectConnection) and refused.status_code == 401, refused
body = b""
while isinstance(event := client.event(), RejectData):
    body += event.data
    if event.body_finished:
        break
assert body == b"not you", body
