"""Asks examples/flask_app.py what it can do."""

import sys

import requests

url = sys.argv[1]
with requests.Session() as session:
    for _ in range(3):
        answer = session.get(url + "/").json()
        assert answer == {"message": "Hello from Flask", "path": "/", "scheme": "http"}, answer
    assert session.get(url + "/greet/caf%C3%A9").text == "Hello, café!\n"
    answer = session.get(url + "/", headers={"X-Forwarded-Proto": "https"}).json()
    assert answer["scheme"] == "https", answer
    files = {"one": b"a" * 10, "two": b"b" * 2_000_000}
    answer = session.post(url + "/upload", files=files, data={"field": "value"}).json()
    assert answer == {"files": {"one": 10, "two": 2_000_000}, "form": {"field": "value"}}, answer
    answer = session.get(url + "/count?to=5")
    assert answer.text == "0\n1\n2\n3\n4\n", answer.text
    answer = session.post(url + "/echo", data=(piece for piece in [b"in", b" ", b"chunks"]))
    assert answer.content == b"in chunks", answer.content
    assert session.get(url + "/nowhere").status_code == 404
    assert session.head(url + "/").headers["Content-Type"] == "application/json"
