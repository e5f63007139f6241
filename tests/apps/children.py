"""Requests that leave a process behind, which has the sockets that its worker had then."""

import asyncio
import os
import signal
import sys

from either import Either


def leave_behind():
    """It lives for as long as its parent does, and waits in a way that nobody patches."""
    parent = os.getpid()
    if os.fork() == 0:
        while os.getppid() == parent:
            signal.sigtimedwait([], 0.05)
        os._exit(0)


def outlive():
    """It lives on when all others have ended; its process."""
    pid = os.fork()
    if pid == 0:
        signal.sigtimedwait([], 60)
        os._exit(0)
    return pid


def forked(leave):
    """Forks a process that doesn't end by itself: what it has ended with."""
    pid = os.fork()
    if pid == 0:
        leave()
        return "never"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def exit():
    print("printed by the child")
    sys.exit(7)


def fail():
    raise ValueError("failed in the middle")


def nothing():
    pass


def pieces(last):
    yield b"some, "
    yield last()


FORKED = {"/exit": exit, "/raise": fail, "/return": nothing}


@Either
def wsgi(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/fork":
        leave_behind()
    elif path == "/outlive" or path in FORKED:
        answer = str(outlive() if path == "/outlive" else forked(FORKED[path])).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
        return [answer]
    start_response("200 OK", [("Content-Type", "text/plain")])
    last = {"/broken": fail, "/yield": lambda: b"%d" % forked(nothing)}
    return pieces(last.get(path, lambda: b"and more"))


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
