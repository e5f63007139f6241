"""Requests that make processes, in every way that Python has. A route of `n` answers something that `n` is in."""

import json
import multiprocessing
import os
import subprocess
import sys
import time

context = multiprocessing.get_context("fork")


def run(n):
    return subprocess.run(["sh", "-c", f"echo {n}"], capture_output=True, text=True).stdout


def prepared(n):
    """With code of ours between fork and exec."""
    command = ["sh", "-c", f"echo {n}"]
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: time.sleep(0.001)).stdout


def forked(n, leave=os._exit):
    child = os.fork()
    if child == 0:
        time.sleep(0.01)
        leave(n % 50)
        return "the child's answer"
    return [n, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]


def exited(n):
    """Its child leaves by an exception."""
    return forked(n, sys.exit)


def returned(n):
    """Its child doesn't leave at all."""
    return forked(n, lambda status: None)


def double(queue, n):
    queue.put(n * 2)


def process(n):
    queue = context.Queue()
    child = context.Process(target=double, args=(queue, n))
    child.start()
    answer = queue.get(timeout=20)
    child.join(20)
    # multiprocessing looks after all children whenever one is started: another request may have had the status.
    return [n, answer, child.exitcode in (0, None)]


def pool(n):
    """Its children are ended by SIGTERM."""
    with context.Pool(2) as children:
        return children.map(abs, [-n, -1])


def app(environ, start_response):
    name, _, n = environ["PATH_INFO"][1:].partition("/")
    body = json.dumps(globals()[name](int(n))).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
