"""Talks to tests/apps/sockets.py by the WebSocket protocol, on as many connections at once as the second argument says."""

import sys

import websocket

url = sys.argv[1].replace("http:", "ws:") + "/echo"
clients = [websocket.create_connection(url, timeout=20) for _ in range(int(sys.argv[2]))]
for round in range(3):
    for number, client in enumerate(clients):
        client.send(f"message {round} of {number}")
    for number, client in enumerate(clients):
        answer = client.recv()
        assert answer == f"message {round} of {number}", answer
client = clients[0]
client.send_binary(bytes(range(256)) * 1000)
assert client.recv() == bytes(range(256)) * 1000
client.ping("there?")
for client in clients[::2]:
    client.send("close")
    opcode, frame = client.recv_data()
    assert (opcode, frame) == (websocket.ABNF.OPCODE_CLOSE, b"\x03\xe8as you like"), (opcode, frame)
    client.close()
    # Nothing comes behind it.
for client in clients[1::2]:
    client.close(timeout=5)
