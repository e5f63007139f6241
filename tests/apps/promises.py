"""The application of the end-to-end tests: a small answer for each promise that a server makes.

`app` is checked by wsgiref.validate on every request; `raw` is the same without the check, for answers that break the
rules on purpose. Both may be called as ASGI applications as well.
"""

import hashlib
import json
import os
import sys
import threading
import time
from urllib.parse import parse_qs
from wsgiref.validate import validator

from either import Either

TEXT = [("Content-Type", "text/plain")]
closed = []
hits = 0


def query(environ, name, default=""):
    return parse_qs(environ.get("QUERY_STRING", "")).get(name, [default])[0]


def text(start_response, body, status="200 OK", headers=()):
    body = body.encode() if isinstance(body, str) else body
    start_response(status, [*TEXT, ("Content-Length", str(len(body))), *headers])
    return [body]


class Tracked:
    """An iterable that notes its close()."""

    def __init__(self, name, pieces):
        self.name = name
        self.pieces = iter(pieces)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.pieces)

    def close(self):
        closed.append(self.name)


def hello(environ, start_response):
    return text(start_response, "hello\n")


def pid(environ, start_response):
    return text(start_response, str(os.getpid()))


def count_hits(environ, start_response):
    return text(start_response, str(hits))


def hoard(environ, start_response):
    """Takes so many megabytes, and never ends."""
    held = bytearray(int(query(environ, "mb")) * 1_000_000)
    while True:
        time.sleep(1)
        held[0] = 1


def show_environ(environ, start_response):
    plain = {key: value for key, value in environ.items() if isinstance(value, (str, bool, int, tuple))}
    return text(start_response, json.dumps(plain, sort_keys=True))


def echo(environ, start_response):
    return text(start_response, environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))


def digest(environ, start_response):
    """Reads the whole body in pieces: its length and digest."""
    total, sha = 0, hashlib.sha256()
    while piece := environ["wsgi.input"].read(64 * 1024):
        total += len(piece)
        sha.update(piece)
    return text(start_response, f"{total} {sha.hexdigest()}")


def count(environ, start_response):
    """Reads the whole body in pieces: its length, and the most memory that this process ever had."""
    total = 0
    while piece := environ["wsgi.input"].read(256 * 1024):
        total += len(piece)
    with open("/proc/self/status") as status:
        peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
    return text(start_response, f"{total} {peak} {json.dumps(open_files())}")


def open_files():
    """The regular files that this process has open and that have no name any more."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass
    return [link for link in links if link.startswith("/") and link.endswith("(deleted)") and not link.startswith("/memfd:")]


def ignore(environ, start_response):
    """Answers without reading the body."""
    return text(start_response, "ignored\n")


def echo_stream(environ, start_response):
    """Sends back what comes as it comes."""
    source = environ["wsgi.input"]
    start_response("200 OK", list(TEXT))
    return iter(lambda: source.read1(), b"")


late = []


def read_late(environ, start_response):
    """Answers at once, and goes on reading the body in another thread."""
    source = environ["wsgi.input"]

    def work():
        try:
            late.append(len(source.read()))
        except Exception as error:
            late.append(f"{type(error).__name__}: {error}")

    first = len(source.read(10))
    late.clear()
    threading.Timer(float(query(environ, "s", "0")), work).start()
    return text(start_response, str(first))


def show_late(environ, start_response):
    return text(start_response, json.dumps(late))


def caught(environ, start_response):
    """Has an answer of its own where the body can't be read."""
    try:
        environ["wsgi.input"].read()
    except OSError as error:
        return text(start_response, f"{type(error).__name__}: {error}", "499 Caught")
    return text(start_response, "read\n")


def lines(environ, start_response):
    source = environ["wsgi.input"]
    first = source.readline()
    rest = source.readlines()
    return text(start_response, json.dumps([first.decode("latin-1"), *[line.decode("latin-1") for line in rest]]))


def sleep(environ, start_response):
    time.sleep(float(query(environ, "s", "1")))
    return text(start_response, "slept\n")


def stream(environ, start_response):
    """`n` pieces of `size` bytes, `pause` seconds between two."""
    count, size = int(query(environ, "n", "3")), int(query(environ, "size", "5"))
    pause = float(query(environ, "pause", "0"))

    def pieces():
        for number in range(count):
            if number and pause:
                time.sleep(pause)
            yield (b"%d" % (number % 10)) * size

    start_response("200 OK", list(TEXT))
    return Tracked(query(environ, "name", "stream"), pieces())


def show_closed(environ, start_response):
    return text(start_response, json.dumps(closed))


def written(environ, start_response):
    write = start_response("200 OK", list(TEXT))
    for number in range(int(query(environ, "n", "3"))):
        write(b"%d," % number)
    return [b"end"]


def write_much(environ, start_response):
    write = start_response("200 OK", list(TEXT))
    piece = b"w" * (1 << 20)
    for _ in range(int(query(environ, "mib", "8"))):
        write(piece)
    return []


def lazy(environ, start_response):
    """Starts its response only when its first piece is asked for."""
    yield b""
    start_response("200 OK", list(TEXT))
    yield b"lazy"


def fail_early(environ, start_response):
    raise ValueError("failed before the response")


def fail_late(environ, start_response):
    start_response("200 OK", list(TEXT))

    def pieces():
        yield b"some"
        raise ValueError("failed in the middle")

    return Tracked("fail_late", pieces())


def replaced(environ, start_response):
    start_response("200 OK", list(TEXT))
    try:
        raise ValueError("noticed in time")
    except ValueError:
        start_response("503 Changed", list(TEXT), sys.exc_info())
    return [b"replaced"]


def started_twice(environ, start_response):
    start_response("200 OK", list(TEXT))
    start_response("200 OK", list(TEXT))
    return [b"never"]


def never_started(environ, start_response):
    return [b"never"]


def too_short(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "10")])
    return [b"short"]


def too_long(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    return [b"long", b"er than that"]


def injected(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-Evil", "a\r\nSet-Cookie: b=c")])
    return [b"never"]


def hop_by_hop(environ, start_response):
    headers = [*TEXT, ("Connection", "keep-alive"), ("Keep-Alive", "timeout=5"), ("Transfer-Encoding", "gzip")]
    start_response("200 OK", [*headers, ("Server", "other"), ("X-Kept", "yes")])
    return [b"body"]


def status(environ, start_response):
    """A status of the client's choice, with a body whether it may have one or not."""
    start_response(query(environ, "line", "200 OK"), list(TEXT))
    return [b"a body"]


def text_item(environ, start_response):
    start_response("200 OK", list(TEXT))
    return ["not bytes"]


def send_file(environ, start_response):
    path = query(environ, "path")
    file = open(path, "rb")
    file.seek(int(query(environ, "from", "0")))
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return environ["wsgi.file_wrapper"](file, 8192)


def complain(environ, start_response):
    print("said on wsgi.errors", file=environ["wsgi.errors"])
    environ["wsgi.errors"].flush()
    print("said on standard output", flush=True)
    return text(start_response, "said\n")


def leave(environ, start_response):
    sys.exit(int(query(environ, "code", "0")))


def hang(environ, start_response):
    """Keeps the interpreter busy for good."""
    while True:
        pass


def spin(environ, start_response):
    while True:
        pass


def spin_in_c(environ, start_response):
    # One call, which neither lets go of Python's lock nor looks for signals.
    return [sum(range(10**12))]


def processes(environ, start_response):
    """Threads, subprocesses and multiprocessing work inside an application."""
    import multiprocessing
    import subprocess

    results = []
    thread = threading.Thread(target=results.append, args=("thread",))
    thread.start()
    thread.join()
    results.append(subprocess.run([sys.executable, "-c", "print('subprocess', end='')"], capture_output=True, text=True).stdout)
    # Whose threads a patched standard library makes wait for themselves.
    if query(environ, "pool", "yes") == "yes":
        with multiprocessing.get_context("fork").Pool(1) as pool:
            results.append(pool.apply(str, ("pool",)))
    return text(start_response, json.dumps(results))


def hold(environ, start_response):
    """Neither lets go of Python's lock nor of the thread for `s` seconds."""
    import ctypes

    ctypes.PyDLL(None).poll(None, 0, int(float(query(environ, "s", "1")) * 1000))
    return text(start_response, "held\n")


def compute(environ, start_response):
    """Keeps a thread busy for `s` seconds."""
    end = time.monotonic() + float(query(environ, "s", "1"))
    while time.monotonic() < end:
        sum(range(1000))
    return text(start_response, "computed\n")


local = threading.local()


def thread_local(environ, start_response):
    """How often this thread was here."""
    local.count = getattr(local, "count", 0) + 1
    return text(start_response, str(local.count))


def switch_interval(environ, start_response):
    """CPython's, in seconds; `s` sets it."""
    if seconds := query(environ, "s", ""):
        sys.setswitchinterval(float(seconds))
    return text(start_response, str(round(sys.getswitchinterval(), 6)))


def thread_name(environ, start_response):
    with open("/proc/thread-self/comm") as comm:
        return text(start_response, f"{threading.current_thread().name} {comm.read().strip()}")


def keep(environ, start_response):
    """Reads the body, and drops the environ, in another thread."""
    results = []

    def work(environ):
        results.append(len(environ["wsgi.input"].read()))
        environ.clear()

    thread = threading.Thread(target=work, args=(environ,))
    thread.start()
    thread.join()
    return text(start_response, str(results[0]))


def account(environ, start_response):
    """What this process holds: Python's blocks of memory, and references to all that requests have to do with."""
    import gc

    gc.collect()
    shared = [None, True, False, b"", "", *environ.keys(), *environ.values()]
    references = sum(map(sys.getrefcount, shared)) + sum(map(sys.getrefcount, gc.get_objects()))
    held = {"blocks": sys.getallocatedblocks(), "references": references}
    if hasattr(sys, "gettotalrefcount"):
        held["total references"] = sys.gettotalrefcount()
    return text(start_response, json.dumps(held))


def stamp(environ, start_response):
    """The time at which the request was begun."""
    now = time.monotonic()
    time.sleep(float(query(environ, "s", "0")))
    return text(start_response, repr(now))


def orphan(environ, start_response):
    """Leaves a process behind whose parent is gone."""
    import subprocess

    subprocess.run(["sh", "-c", "sleep 0.3 &"], check=True)
    return text(start_response, "left behind\n")


def interpreter(environ, start_response):
    facts = {"executable": sys.executable, "prefix": sys.prefix, "argv": sys.argv, "cwd": os.getcwd(), "path": sys.path}
    facts["main_thread"] = threading.current_thread() is threading.main_thread()
    return text(start_response, json.dumps(facts))


ROUTES = {
    "/": hello,
    "/account": account,
    "/caught": caught,
    "/closed": show_closed,
    "/complain": complain,
    "/compute": compute,
    "/count": count,
    "/digest": digest,
    "/echo": echo,
    "/echo-stream": echo_stream,
    "/environ": show_environ,
    "/hoard": hoard,
    "/fail-early": fail_early,
    "/fail-late": fail_late,
    "/file": send_file,
    "/hang": hang,
    "/hits": count_hits,
    "/hold": hold,
    "/hop-by-hop": hop_by_hop,
    "/ignore": ignore,
    "/injected": injected,
    "/interpreter": interpreter,
    "/keep": keep,
    "/late": show_late,
    "/lazy": lazy,
    "/leave": leave,
    "/lines": lines,
    "/never-started": never_started,
    "/orphan": orphan,
    "/pid": pid,
    "/processes": processes,
    "/read-late": read_late,
    "/replaced": replaced,
    "/sleep": sleep,
    "/spin": spin,
    "/spin-in-c": spin_in_c,
    "/stamp": stamp,
    "/started-twice": started_twice,
    "/status": status,
    "/stream": stream,
    "/switch-interval": switch_interval,
    "/text-item": text_item,
    "/thread-local": thread_local,
    "/thread-name": thread_name,
    "/too-long": too_long,
    "/too-short": too_short,
    "/write": written,
    "/write-much": write_much,
}


@Either
def raw(environ, start_response):
    global hits
    hits += 1
    handler = ROUTES.get(environ["PATH_INFO"], show_environ)
    return handler(environ, start_response)


app = Either(validator(raw))
