"""Talks to the WebSocket handler of tornado_site.py: tornado_websocket.py PORT."""

import json
import sys
import urllib.request

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

port = sys.argv[1]
url = f"ws://127.0.0.1:{port}/socket/it"


def closed(client):
    try:
        client.recv(timeout=10)
    except ConnectionClosed as end:
        return end.rcvd.code, end.rcvd.reason
    raise AssertionError("it goes on")


with connect(url, subprotocols=["one", "two"]) as client:
    assert json.loads(client.recv(timeout=10)) == {"open": "it", "subprotocol": "two", "ip": "127.0.0.1"}
    assert client.subprotocol == "two"
    for message in ("text", "ä", b"bytes", "x" * 100_000):
        client.send(message)
        assert client.recv(timeout=10) == message
    client.send("close")
    assert closed(client) == (4001, "as asked")
with connect(url) as client:
    client.recv(timeout=10)
    client.close(4002, "mine")
with connect(url) as client:
    client.recv(timeout=10)
    client.send("fail")
    assert closed(client)[0] == 1011
try:
    connect(url, origin="http://elsewhere.example")
except InvalidStatus as refusal:
    assert refusal.response.status_code == 403, refusal
else:
    raise AssertionError("another origin was let in")
try:
    connect(f"ws://127.0.0.1:{port}/nowhere")
except InvalidStatus as refusal:
    assert refusal.response.status_code == 404, refusal
else:
    raise AssertionError("there is nothing there")
told = urllib.request.urlopen(f"http://127.0.0.1:{port}/closed", timeout=10).read().decode()
assert "4002 mine" in told and "4001 as asked" in told, told
print("all well")
