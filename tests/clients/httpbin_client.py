"""Asks httpbin, the whole of HTTP in one Flask application."""

import sys

import requests

url = sys.argv[1]
with requests.Session() as session:
    answer = session.get(url + "/get?a=1&b=%20", headers={"X-Test": "yes"}).json()
    assert answer["args"] == {"a": "1", "b": " "} and answer["headers"]["X-Test"] == "yes", answer
    for method in ["post", "put", "patch", "delete"]:
        answer = getattr(session, method)(f"{url}/{method}", json={"key": ["value"]}).json()
        assert answer["json"] == {"key": ["value"]}, answer
    for status in [200, 204, 301, 304, 404, 418, 500]:
        response = session.get(f"{url}/status/{status}", allow_redirects=False)
        assert response.status_code == status, response
    assert session.get(url + "/gzip").json()["gzipped"]
    assert len(session.get(url + "/bytes/100000").content) == 100_000
    assert len(session.get(url + "/stream-bytes/100000?chunk_size=1000").content) == 100_000
    assert len(session.get(url + "/stream/20").text.splitlines()) == 20
    assert session.get(url + "/redirect/3").json()["url"].endswith("/get")
    assert session.get(url + "/cookies/set?name=value").json() == {"cookies": {"name": "value"}}
    assert session.get(url + "/basic-auth/user/password", auth=("user", "password")).json()["authenticated"]
    assert session.get(url + "/range/1000", headers={"Range": "bytes=10-19"}).status_code == 206
    assert session.head(url + "/get").content == b""
    assert "GET" in session.options(url + "/get").headers["Allow"]
