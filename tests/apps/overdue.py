"""Requests that take too long, one route for each thing that they may be doing."""

import json
import os
import queue
import select
import socket
import subprocess
import threading
import time

lock = threading.Lock()
lock.acquire()
cleaned = []


def sleep():
    time.sleep(30)


def locked():
    with lock:
        pass


def queued():
    queue.Queue().get()


def condition():
    threading.Event().wait(30)


def future():
    from concurrent.futures import Future

    Future().result()


def received():
    a, b = socket.socketpair()
    a.recv(1)


def timed():
    a, b = socket.socketpair()
    a.settimeout(30)
    a.recv(1)


def selected():
    r, w = os.pipe()
    select.select([r], [], [])


def polled():
    """A library's own loop, which calls again after EINTR."""
    import ctypes

    a, b = socket.socketpair()
    polled = ctypes.create_string_buffer(a.fileno().to_bytes(4, "little") + b"\x01\0\0\0", 8)
    libc = ctypes.CDLL(None, use_errno=True)
    while libc.poll(polled, 1, -1) == -1 and ctypes.get_errno() == 4:
        pass


def child():
    subprocess.run(["sleep", "30"])


def computing():
    end = time.monotonic() + 30
    while time.monotonic() < end:
        sum(range(1000))


def caught():
    try:
        time.sleep(30)
    except BaseException as error:
        return [type(error).__module__, type(error).__name__, isinstance(error, Exception)]


def quick():
    return "quick"


def state():
    return [sorted(cleaned), lock.locked()]


def holding():
    """Keeps Python's lock all the while."""
    import ctypes

    ctypes.PyDLL(None).usleep(900_000)
    return "held"


def app(environ, start_response):
    name = environ["PATH_INFO"][1:]
    if name == "begun":
        start_response("200 OK", [("Content-Type", "text/plain")])(b"begun")
        time.sleep(30)
    try:
        body = json.dumps(globals()[name]()).encode()
    finally:
        time.sleep(0.001)
        cleaned.append(name)
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
