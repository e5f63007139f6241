"""Talks to `tests/apps/socketio_site.py`, by long polling, by WebSocket, and from the one to the other."""

import os
import queue
import sys

import requests
import socketio

URL = sys.argv[1]
assert requests.get(URL, timeout=10).text == "beside"
for transports in (["polling"], ["websocket"], ["polling", "websocket"]):
    clients = []
    for _ in range(2):
        client = socketio.Client(reconnection=False)
        client.heard = queue.Queue()
        client.on("greeting", lambda data, client=client: client.heard.put(data))
        client.on("said", lambda data, client=client: client.heard.put(data))
        client.connect(URL, transports=transports, wait_timeout=10)
        clients.append(client)
    one, two = clients
    assert one.call("greet", {"name": "ann"}, timeout=10) == {"seen": "ann"}, transports
    assert one.heard.get(timeout=10) == {"hello": "ann", "path": "/socket.io/"}, transports
    assert one.call("picture", bytes(range(256)) * 300, timeout=10) == {"bytes": (bytes(range(256)) * 300)[::-1]}
    for client in clients:
        client.call("join", "lobby", timeout=10)
    two.emit("say", ("lobby", "hello all"))
    assert one.heard.get(timeout=10) == two.heard.get(timeout=10) == "hello all", transports
    if "websocket" in transports:
        assert one.transport() == "websocket", one.transport()
    if "websocket" in transports:
        for client in clients:
            client.disconnect()
# Those that poll are left as they are: Engine.IO answers a poll that is under way when its client closes, 30 seconds later.
os._exit(0)
