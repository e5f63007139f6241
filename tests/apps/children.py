"""Requests that leave a process behind, which has the sockets that its worker had then."""

import asyncio
import os
import signal

from either import Either


def leave_behind():
    """It lives for as long as its parent does, and waits in a way that nobody patches."""
    parent = os.getpid()
    if os.fork() == 0:
        while os.getppid() == parent:
            signal.sigtimedwait([], 0.05)
        os._exit(0)


def pieces(last):
    yield b"some, "
    yield last()


def fail():
    raise ValueError("failed in the middle")


@Either
def wsgi(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/fork":
        leave_behind()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return pieces(fail if path == "/broken" else lambda: b"and more")


async def poll(receive, send):
    """Waits for its client to leave, for a while."""
    await receive()
    try:
        message = await asyncio.wait_for(receive(), 2)
        told = message["type"].encode()
    except asyncio.TimeoutError:
        told = b"it stayed"
    fields = [(b"content-length", str(len(told)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": told})


def app(*call):
    if len(call) == 3 and call[0].get("path") == "/poll":
        return poll(*call[1:])
    return wsgi(*call)
