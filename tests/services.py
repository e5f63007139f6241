#!/usr/bin/env python3
"""Starts real servers for tests, on free ports of 127.0.0.1, with all their files in one temporary directory:
PostgreSQL, Redis, MariaDB and a slow HTTPS server, or those that are named.

    tests/services.py [postgresql] [redis] [mariadb] [slow]

Writes one line of JSON with their addresses as soon as all answer, and lives until its standard input ends; then it stops
them and removes the directory. Whoever dies with the other end of the pipe leaves nothing behind.
"""

import glob
import http.server
import json
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

PATIENCE = 60


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def find(command, *places):
    """The path of a command, also where Debian puts it outside of PATH."""
    for pattern in places:
        if found := sorted(glob.glob(pattern)):
            return found[-1]
    if found := shutil.which(command):
        return found
    sys.exit(f"{command} is missing: tests/packages says which package has it")


class Processes:
    """What was started, in a directory that the user of the servers can write to."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="rgunicorn-services-")
        self.running = []
        # PostgreSQL and MariaDB refuse to run as root.
        self.user = pwd.getpwnam("nobody") if os.getuid() == 0 else None
        self.own(self.directory)

    def own(self, path):
        if self.user:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        os.chmod(path, 0o700)

    def path(self, name):
        return os.path.join(self.directory, name)

    def as_user(self):
        if not self.user:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def run(self, *command):
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=self.directory, **self.as_user()
        )
        if done.returncode:
            sys.exit(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def start(self, name, *command, stop=signal.SIGTERM):
        log = self.path(name + ".log")
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                # The terminal's Ctrl-C is for the tests, which then close the pipe.
                start_new_session=True,
                **self.as_user(),
            )
        self.running.append((process, stop, log))
        return process

    def wait_for(self, port):
        process, _, log = self.running[-1]
        start = time.monotonic()
        while time.monotonic() < start + PATIENCE and process.poll() is None:
            try:
                return socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.02)
        with open(log, errors="replace") as file:
            sys.exit(f"{process.args[0]} doesn't listen on port {port}; its log:\n{file.read()}")

    def end(self):
        for process, stop, _ in self.running:
            if process.poll() is None:
                process.send_signal(stop)
        for process, _, _ in self.running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def postgresql(processes):
    places = "/usr/lib/postgresql/*/bin/", "/usr/local/pgsql/bin/"
    initdb, postgres = (find(name, *(place + name for place in places)) for name in ("initdb", "postgres"))
    data, port = processes.path("postgresql"), free_port()
    processes.run(initdb, "-D", data, "-U", "test", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": processes.directory,
        "max_connections": 400,
        "shared_buffers": "32MB",
        "fsync": "off",
        "autovacuum": "off",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    # SIGINT is PostgreSQL's fast shutdown.
    processes.start("postgresql", postgres, "-D", data, *options, stop=signal.SIGINT)
    processes.wait_for(port)
    return {"host": "127.0.0.1", "port": port, "user": "test", "dbname": "postgres"}


def redis(processes):
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", processes.directory]
    processes.start("redis", find("redis-server"), *options)
    processes.wait_for(port)
    return {"host": "127.0.0.1", "port": port}


def mariadb(processes):
    server = find("mariadbd", "/usr/sbin/mariadbd", "/usr/libexec/mariadbd")
    data, port = processes.path("mariadb"), free_port()
    install = find("mariadb-install-db", "/usr/bin/mariadb-install-db")
    common = ["--no-defaults", f"--datadir={data}"]
    processes.run(install, *common, "--auth-root-authentication-method=normal", "--skip-test-db")
    options = [
        f"--port={port}",
        "--bind-address=127.0.0.1",
        f"--socket={processes.path('mariadb.sock')}",
        f"--pid-file={processes.path('mariadb.pid')}",
        "--max-connections=300",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-buffer-pool-size=16M",
    ]
    processes.start("mariadb", server, *common, *options)
    processes.wait_for(port)
    return {"host": "127.0.0.1", "port": port, "user": "root", "database": "mysql"}


class Slow(http.server.BaseHTTPRequestHandler):
    """`/?wait=SECONDS&size=BYTES` answers when it likes, a piece at a time; a POST with what it was sent."""

    protocol_version = "HTTP/1.1"

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        time.sleep(self.wait / 2)
        self.wfile.write(body[len(body) // 2 :])

    def do_GET(self):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        self.wait = float(query.get("wait", 0))
        time.sleep(self.wait / 2)
        self.answer(b"s" * int(query.get("size", 10)))

    def do_POST(self):
        self.wait = 0
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *arguments):
        pass


def slow(processes):
    certificate, key = processes.path("certificate.pem"), processes.path("key.pem")
    processes.run(
        *(find("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        *("-keyout", key, "-out", certificate),
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 1000
        daemon_threads = True

        def get_request(self):
            connection, address = super().get_request()
            # The handshake is made by the thread that reads first.
            return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

        def handle_error(self, request, client_address):
            pass

    server = Server(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.chmod(processes.directory, 0o755)
    return {"url": f"https://localhost:{server.server_port}", "certificate": certificate}


ALL = {"postgresql": postgresql, "redis": redis, "mariadb": mariadb, "slow": slow}


def main():
    names = sys.argv[1:] or list(ALL)
    if unknown := set(names) - set(ALL):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    processes = Processes()
    try:
        addresses = {name: ALL[name](processes) for name in names}
        print(json.dumps(addresses), flush=True)
        sys.stdin.read()
    finally:
        processes.end()


if __name__ == "__main__":
    main()
