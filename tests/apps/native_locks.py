"""Requests that wait for each other at locks of native code (native_locks.c), with Python's lock and without."""

import ctypes
import os
import threading

LIBRARY = os.environ["NATIVE_LOCKS"]
without, having = ctypes.CDLL(LIBRARY), ctypes.PyDLL(LIBRARY)


def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def app(environ, start_response):
    how, _, kind = environ["PATH_INFO"][1:].partition("/")
    if how == "hold":
        getattr(without, f"hold_{kind}")()
    elif how == "take":
        getattr(having, f"take_{kind}")()
    elif how == "thread":
        in_thread(getattr(having, f"take_{kind}"))
    body = f"{how} {kind}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
