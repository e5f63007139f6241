"""Requests that leave a process behind, which has the sockets that its worker had then."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time

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


def limits():
    """Of open files: whether this process has all that it may, and what programs have that it starts in several ways."""
    show = ["sh", "-c", "sleep 0.3; ulimit -Sn"]

    def run(**more):
        return subprocess.run(show, capture_output=True, text=True, **more).stdout.strip()

    def executed(start):
        with tempfile.NamedTemporaryFile("r") as file:
            start([*show[:2], f"{show[2]} > {file.name}"])
            while not (answer := file.read()):
                time.sleep(0.05)
            return answer.strip()

    def forked(command):
        if os.fork() == 0:
            try:
                os.execv("/nowhere/sh", command)
            except OSError:
                os.execvp("sh", command)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = run(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard)))
    spawned = executed(lambda command: os.posix_spawnp("sh", command, os.environ))
    return json.dumps([soft == hard, wanted == str(hard), run(), executed(forked), spawned])


FORKED = {"/exit": exit, "/raise": fail, "/return": nothing}


@Either
def wsgi(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/fork":
        leave_behind()
    elif path in ("/outlive", "/limits") or path in FORKED:
        own = {"/outlive": outlive, "/limits": limits}
        answer = str(own[path]() if path in own else forked(FORKED[path])).encode()
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
