"""WebSockets of `tests/apps/asgi.py`, by a client that is strict."""

import json
import os
import sys
import threading

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

url = sys.argv[1].replace("http://", "ws://")

# Messages of all sizes, with and without compression.
for compression in (None, "deflate"):
    with connect(url + "/echo?x=1", compression=compression, max_size=None) as socket:
        assert socket.response.headers["x-hello"] == "there"
        assert ("Sec-WebSocket-Extensions" in socket.response.headers) == (compression is not None)
        for size in (0, 1, 125, 126, 65535, 65536, 1_000_000, 5_000_000):
            for message in ("ä" * (size // 2), os.urandom(size)):
                socket.send(message)
                assert socket.recv(10) == message, size
        socket.send(["in ", "frag", "ments"])
        assert socket.recv(10) == "in fragments"
        assert socket.ping().wait(10)

# Many at a time.
sockets = [connect(url + "/echo") for _ in range(50)]
for number, socket in enumerate(sockets):
    socket.send(str(number))
for number, socket in enumerate(sockets):
    assert socket.recv(10) == str(number)
for socket in sockets:
    socket.close()

with connect(url + "/echo", subprotocols=["one", "two"]) as socket:
    assert socket.subprotocol == "two"

with connect(url + "/scope?a=b") as socket:
    scope = json.loads(socket.recv(10))
    assert scope["type"] == "websocket" and scope["scheme"] == "ws" and scope["query_string"] == "a=b", scope
    assert "method" not in scope and scope["extensions"] == {"websocket.http.response": {}}, scope
    assert scope["state"] == {"started": "yes"}, scope

for path, status, body in (("/deny", 403, b""), ("/reject", 401, b"not you"), ("/fail", 500, None)):
    try:
        connect(url + path)
    except InvalidStatus as error:
        assert error.response.status_code == status, error.response
        assert body is None or error.response.body == body, error.response.body
    else:
        raise AssertionError(path)

for path, code, reason in (("/close", 3001, "enough"), ("/return", 1000, ""), ("/fail-open", 1011, "")):
    with connect(url + path) as socket:
        try:
            socket.recv(10)
        except ConnectionClosed as error:
            assert (error.rcvd.code, error.rcvd.reason) == (code, reason), (path, error)
        else:
            raise AssertionError(path)

# A client that closes is answered.
socket = connect(url + "/late")
socket.close(4000, "bye")
assert socket.close_code == 4000, socket.close_code

# What is sent to a client that reads slowly waits, and comes.
with connect(url + "/flood", max_size=None, compression=None) as socket:
    threading.Event().wait(0.5)
    assert sum(len(socket.recv(20)) for _ in range(1024)) == 1024 * 65536
