"""Asks `tests/apps/quart_site.py` for all that it has."""

import sys
import time

import httpx
from websockets.sync.client import connect

URL = sys.argv[1]
with httpx.Client(base_url=URL, timeout=20) as client:
    assert client.post("/", content=b"q" * 200_000).json() == {"started": "yes", "path": "/", "body": 200_000}
    answer = client.post("/upload", files={"file": ("f.bin", b"f" * 1_000_000)}, data={"note": "hello"})
    assert answer.json() == {"size": 1_000_000, "note": "hello"}, answer.text
    assert client.get("/stream").text == "0,1,2,3,4,"
    assert client.get("/nowhere").status_code == 404
    with connect(URL.replace("http://", "ws://") + "/echo") as socket:
        for number in range(10):
            socket.send(str(number))
            assert socket.recv(10) == f"echo {number}"
    end = time.monotonic() + 15
    while client.get("/seen").json() != ["echo ended"]:
        assert time.monotonic() < end, client.get("/seen").json()
        time.sleep(0.05)
