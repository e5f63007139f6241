"""Asks `tests/apps/django_asgi.py` for all that it has."""

import sys
import time

import httpx

URL = sys.argv[1]
with httpx.Client(base_url=URL, timeout=20) as client:
    assert client.get("/").text == "hello"
    assert client.get("/sync?q=%C3%A4").json() == {"path": "/sync", "secure": False, "q": "ä"}
    host = URL.removeprefix("http://")
    assert client.put("/async", content=b"b" * 100_000).json() == {"body": 100_000, "method": "PUT", "host": host}
    answer = client.post("/upload", files={"file": ("f.bin", b"f" * 4_000_000)}, data={"note": "hello"})
    assert answer.json() == {"name": "f.bin", "size": 4_000_000, "note": "hello"}, answer.text
    assert client.get("/stream").text == "0,1,2,3,4,"
    assert client.get("/fail").status_code == 500
    assert client.get("/nowhere").status_code == 404
    try:
        client.get("/slow", timeout=0.3)
    except httpx.ReadTimeout:
        pass
    end = time.monotonic() + 15
    while client.get("/counts").json()["cancelled"] != 1:
        assert time.monotonic() < end, "the view of a client that has left was not cancelled"
        time.sleep(0.05)
    counts = client.get("/counts").json()
    # Requests before this one are finished, this one is not.
    assert counts["started"] - counts["finished"] <= 2, counts
