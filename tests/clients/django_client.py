"""Asks examples/django_app.py what it can do."""

import sys
from pathlib import Path

import requests

url = sys.argv[1]
source = Path(__file__).parents[2] / "examples/django_app.py"
with requests.Session() as session:
    for _ in range(3):
        answer = session.get(url + "/").json()
        assert answer == {"message": "Hello from Django", "path": "/", "secure": False}, answer
    answer = session.post(url + "/echo", data={"a": "b" * 100_000}).json()
    assert answer == {"method": "POST", "length": 100_002, "form": {"a": "b" * 100_000}}
    assert session.get(url + "/count").text == "0\n1\n2\n3\n4\n"
    assert session.get(url + "/source").content == source.read_bytes()
    assert session.get(url + "/nowhere").status_code == 404
