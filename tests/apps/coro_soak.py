"""What tests/coro_soak asks: handlers of the other applications, and what it watches of the worker."""

import gc
import hashlib
import json
import sys
import threading

import databases
import remotes
import sockets
import waits


def digest(environ, start_response):
    """Of a body that is read in pieces; the answer streams."""
    summed = hashlib.sha256()
    while piece := environ["wsgi.input"].read(16384):
        summed.update(piece)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (part.encode() for part in summed.hexdigest())


def state(environ, start_response):
    """How many thread states Python has, and how many threads it knows of."""
    gc.collect()
    body = json.dumps({"states": len(sys._current_frames()), "threads": threading.active_count()}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


APPLICATIONS = {
    "waits": waits.app,
    "databases": databases.application,
    "remotes": remotes.app,
    "sockets": sockets.app,
    "digest": digest,
    "state": state,
}


def app(environ, start_response):
    name, _, rest = environ["PATH_INFO"][1:].partition("/")
    environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/" + name, "/" + rest
    return APPLICATIONS[name](environ, start_response)
