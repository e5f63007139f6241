"""Asks for answers of all shapes, read by h11, which takes nothing that isn't as RFC 9112 has it."""

import socket
import sys
from urllib.parse import urlsplit

import h11

URL = urlsplit(sys.argv[1])


class Strict:
    def __init__(self):
        self.socket = socket.create_connection((URL.hostname, URL.port), 20)
        self.connection = h11.Connection(h11.CLIENT)

    def event(self):
        while True:
            event = self.connection.next_event()
            if event is not h11.NEED_DATA:
                return event
            self.connection.receive_data(self.socket.recv(65536))

    def ask(self, method, target, body=b"", headers=(), chunked=False):
        framing = [("transfer-encoding", "chunked")] if chunked else [("content-length", str(len(body)))] if body else []
        request = h11.Request(method=method, target=target, headers=[("host", "test"), *headers, *framing])
        out = self.connection.send(request)
        for start in range(0, len(body), 5000):
            out += self.connection.send(h11.Data(body[start : start + 5000]))
        self.socket.sendall(out + self.connection.send(h11.EndOfMessage()))
        informational = []
        while isinstance(event := self.event(), h11.InformationalResponse):
            informational.append(event.status_code)
        response, data = event, b""
        assert isinstance(response, h11.Response), response
        while isinstance(event := self.event(), h11.Data):
            data += event.data
        assert isinstance(event, h11.EndOfMessage), event
        self.trailers = [tuple(map(bytes, field)) for field in event.headers]
        if self.connection.our_state is h11.DONE and self.connection.their_state is h11.DONE:
            self.connection.start_next_cycle()
        return response.status_code, informational, dict(response.headers), data


client = Strict()
for _ in range(3):
    assert client.ask("GET", "/")[::3] == (200, b"hello\n")
assert client.ask("HEAD", "/")[::3] == (200, b"")
assert client.ask("GET", "/stream")[3] == b"0,1,2,"
for size in (1, 5000, 70_000, 500_000):
    assert client.ask("POST", "/echo", b"e" * size)[3] == b"e" * size, size
    assert client.ask("POST", "/echo", b"c" * size, chunked=True)[3] == b"c" * size, size
status, informational, headers, data = client.ask("GET", "/hints")
assert (status, informational, data) == (200, [103, 103], b"hinted\n"), (status, informational, data)
assert client.ask("GET", "/trailers")[3] == b"body" and client.trailers == [(b"x-sum", b"4")], client.trailers
assert client.ask("GET", "/background")[3] == b"answered\n"
assert client.ask("GET", "/no-content")[::3] == (204, b"")
assert client.ask("GET", "/not-modified")[::3] == (304, b"")
status, _, headers, data = client.ask("GET", "/fail-early")
assert status == 500 and headers[b"connection"] == b"close", headers
assert isinstance(client.event(), h11.ConnectionClosed)
# One that breaks off is never taken for a whole one.
client = Strict()
try:
    client.ask("GET", "/fail-late")
except (h11.RemoteProtocolError, ConnectionError):
    pass
else:
    raise AssertionError("a response that broke off looked whole")
