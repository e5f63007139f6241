"""What a worker makes when it is first needed is first needed by many requests at once here, just when each of them is to let
go of Python's lock: a thread computes, and C code has kept it waiting for some time. One route each."""

import ctypes
import functools
import io
import json
import os
import threading
import time

begun = []


def compute():
    while True:
        pass


# Sleeps with the lock, runs no Python, and answers None.
usleep = ctypes.PyDLL(None)["usleep"]
usleep.restype = ctypes.c_void_p
slowly = functools.partial(usleep, 10_000)


class Slow:
    """A number that isn't one, which takes long to find out."""

    __index__ = staticmethod(slowly)


def plain(environ, start_response):
    return "plain"


def read(environ, start_response):
    return environ["wsgi.input"].read().decode()


def misused(environ, start_response):
    """What our own objects raise where they are given what they can't take."""
    begun.append(1)
    until = time.monotonic() + 30
    while len(begun) < 30 and time.monotonic() < until:
        pass
    try:
        environ["wsgi.input"].read(Slow())
    except TypeError as error:
        return error.__notes__


def raised(environ, start_response):
    raise ValueError("on purpose")


def wrapped(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"wrapped"))


def sent(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](open(__file__, "rb"))


def pieces(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"one")
    return (piece for piece in (b"two", b"three"))


def app(environ, start_response):
    answer = globals()[environ["PATH_INFO"][1:]](environ, start_response)
    if not isinstance(answer, (str, list)):
        return answer
    body = json.dumps(answer).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


threading.Thread(target=compute, daemon=True).start()
