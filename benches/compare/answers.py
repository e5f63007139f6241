"""Asks a server once, and says what is wrong with the answer: a wrong answer is never timed."""

import http.client
import io
import socket

from processes import Failed
from workloads import Workload


class Kept(io.BufferedReader):
    """A file that `HTTPResponse` can't close at the end of an answer: the next one follows in it."""

    def close(self) -> None:
        pass


class Opened:
    def __init__(self, file):
        self.file = file

    def makefile(self, *_):
        return self.file


def check(workload: Workload, port: int) -> None:
    if workload.websocket:
        # Its load generator checks each message, the first before it measures.
        return
    close = "Connection: close\r\n" if workload.close else ""
    length = f"Content-Length: {len(workload.body)}\r\n" if workload.body else ""
    head = f"{workload.method} {workload.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{close}{length}\r\n"
    expect = workload.body if workload.expect is None else workload.expect
    answered = 0
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.settimeout(10)
            connection.sendall((head.encode() + workload.body) * workload.depth)
            file = Kept(socket.SocketIO(connection, "r"))
            for answered in range(workload.depth):
                response = http.client.HTTPResponse(Opened(file), method=workload.method)
                response.begin()
                body = response.read()
                if response.status != 200 or body != expect:
                    raise Failed(f"answered {response.status} with {len(body)} bytes, not 200 with the {len(expect)} awaited")
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"{answered} of {workload.depth} answers came: {error!r}") from error
