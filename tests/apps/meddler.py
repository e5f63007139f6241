"""An application that means ill to its worker's arbiter, by all that the worker has in its hands."""

import mmap
import os
import threading
import time

from either import Either

FILLS = {"ones": lambda size: b"\xff" * size, "zeros": bytes, "random": os.urandom}


def descriptors():
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            with open(f"/proc/self/fdinfo/{name}") as info:
                flags = next(int(line.split()[1], 8) for line in info if line.startswith("flags:"))
        except OSError:
            continue
        yield int(name), target, flags


def pull(number):
    """Writes a number to every pipe that can be written to."""
    for descriptor, target, flags in descriptors():
        if target.startswith("pipe:") and flags & os.O_ACCMODE == os.O_WRONLY and descriptor > 2:
            try:
                os.write(descriptor, bytes([number]) * 100)
            except OSError:
                pass  # Nobody reads it.


def scoreboard():
    return next(descriptor for descriptor, target, _ in descriptors() if "scoreboard" in target)


def truncate(size):
    try:
        os.ftruncate(scoreboard(), size)
    except PermissionError:
        return "refused"
    return "done"


def scribble(fill):
    with mmap.mmap(scoreboard(), 0) as board:
        board[:] = FILLS[fill](len(board))


def report():
    """The file that the arbiter reads tracebacks from."""
    return next(descriptor for descriptor, target, _ in descriptors() if "report" in target)


def tell(size):
    os.write(report(), b"x" * size)


def shout(seconds):
    """Says something whenever it may be asked."""
    descriptor, end = report(), time.monotonic() + seconds

    def repeat():
        while time.monotonic() < end:
            os.write(descriptor, b"\x1b[2J\nforged\x04")
            time.sleep(0.001)

    threading.Thread(target=repeat).start()


def wsgi(environ, start_response):
    _, what, value = environ["PATH_INFO"].split("/")
    answer = {
        "pull": lambda: pull(int(value)),
        "truncate": lambda: truncate(int(value)),
        "scribble": lambda: scribble(value),
        "tell": lambda: tell(int(value)),
        "shout": lambda: shout(int(value)),
        "uid": os.getuid,
    }[what]()
    body = str(answer).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


app = Either(wsgi)
