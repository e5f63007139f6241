"""Applications that speak another protocol than HTTP on the client's socket."""

import flask
from flask_sock import Sock

app = flask.Flask(__name__)
sock = Sock(app)


@sock.route("/echo")
def echo(ws):
    while True:
        message = ws.receive()
        if message == "close":
            ws.close(1000, "as you like")
            return
        ws.send(message)


@app.get("/")
def plain():
    return "plain\n"


def raw(environ, start_response):
    """Echoes lines in upper case, after an answer of its own."""
    socket = environ.get("gunicorn.socket")
    if environ["PATH_INFO"] == "/ignore":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "8")])
        return [b"ignored\n"]
    if socket is None:
        start_response("426 Upgrade Required", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return []
    assert socket.gettimeout() is None and socket.getpeername()
    socket.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: lines\r\nConnection: Upgrade\r\n\r\n")
    with socket.makefile("rb") as lines:
        for line in lines:
            if line == b"end\n":
                break
            socket.sendall(line.upper())
    raise StopIteration
