"""rgunicorn behind Traefik with the file that is shipped: reloads under load lose nothing. See tests/deployment."""

import http.client
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SECONDS = 10


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def replaced(text, part, by):
    assert part in text, f"{part} is not in\n{text}"
    return text.replace(part, by)


def wait_for(what, condition):
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < 30, f"waited in vain for {what}"
        time.sleep(0.05)


def ask(port, method="GET", body=None, connection=None):
    connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    path = "/echo" if method == "POST" else "/"
    connection.request(method, path, body, {"Host": "site.example"})
    answer = connection.getresponse()
    answer.read()
    return answer.status, connection


def load(port, method, until, counts):
    connection = None
    while time.monotonic() < until:
        try:
            status, connection = ask(port, method, b"hello" if method == "POST" else None, connection)
            counts[status] = counts.get(status, 0) + 1
        except (OSError, http.client.HTTPException) as error:
            counts[repr(error)] = counts.get(repr(error), 0) + 1
            connection = None


def main():
    scratch = pathlib.Path(tempfile.mkdtemp())
    ours, front = free_port(), free_port()
    shipped = (ROOT / "examples/deploy/traefik.yaml").read_text()
    advised = next(line for line in shipped.splitlines() if line.startswith("#   rgunicorn")).split()[2:]
    advised[advised.index("-b") + 1] = f"127.0.0.1:{ours}"
    rules = replaced(shipped, "127.0.0.1:8000", f"127.0.0.1:{ours}")
    # No certificate, and so another entry point.
    rules = replaced(replaced(rules, "      tls: {}\n", ""), "[websecure]", "[web]")
    (scratch / "rules.yaml").write_text(rules)
    (scratch / "traefik.yaml").write_text(
        f"entryPoints: {{web: {{address: '127.0.0.1:{front}'}}}}\n"
        f"providers: {{file: {{filename: {scratch}/rules.yaml}}}}\n"
        "log: {level: INFO}\n"
    )
    with open(scratch / "log", "w") as log:
        output = {"stdout": log, "stderr": log}
        server = subprocess.Popen([TARGET / "release/rgunicorn", *advised], cwd=ROOT / "examples", **output)
        traefik = subprocess.Popen(["traefik", f"--configFile={scratch}/traefik.yaml"], **output)
    try:
        wait_for("Traefik", lambda: socket.socket().connect_ex(("127.0.0.1", front)) == 0)
        wait_for("an answer through it", lambda: ask(front)[0] == 200)
        counts = {}
        until = time.monotonic() + SECONDS
        clients = [
            threading.Thread(target=load, args=(front, "POST" if number % 2 else "GET", until, counts))
            for number in range(8)
        ]
        for client in clients:
            client.start()
        while time.monotonic() < until - 1:
            time.sleep(1)
            server.send_signal(signal.SIGHUP)
        for client in clients:
            client.join()
    finally:
        traefik.terminate()
        server.terminate()
        server.wait()
        traefik.wait()
    reloads = (scratch / "log").read_text().count("finishes what it holds")
    print(f"Traefik: {SECONDS} s, {reloads} reloads, answers by status: {counts}")
    if set(counts) != {200} or reloads < 3:
        sys.exit(f"some were lost; {scratch}/log has the logs")


main()
