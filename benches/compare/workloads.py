"""The workloads: what is asked for, how, and of which servers."""

from dataclasses import dataclass

from apps import TEN_KB

HELLO = b"Hello, world!\n"


@dataclass(frozen=True)
class Workload:
    key: str
    title: str
    servers: tuple[str, ...]
    """Keys of servers.py; the first is what the others' ratios are against."""
    app: str = "apps:hello"
    expect: bytes | None = HELLO
    """The body that the answer must have; None: what was sent."""
    method: str = "GET"
    body: bytes = b""
    path: str = "/"
    connections: int = 64
    threads: int = 1
    """For servers with threads, where their row doesn't say how many."""
    depth: int = 1
    close: bool = False
    beside_busy: bool = False
    seconds: int = 0
    """A turn is at least so long."""
    websocket: bool = False
    """Messages of text that are sent back, one after the other on each connection."""
    postgresql: bool = False
    """Whether the application needs a database, which is started for the workload."""
    note: str = ""


RGUNICORN = ("rgunicorn-event", "rgunicorn-threads")
C_AND_RUST = ("granian", "uwsgi", "bjoern", "fastwsgi")
GUNICORN = ("gunicorn-gevent", "gunicorn-gthread", "gunicorn-sync")
PLAIN = (*RGUNICORN, *C_AND_RUST, "uvicorn", *GUNICORN)
FRAMEWORK = (*RGUNICORN, *C_AND_RUST, *GUNICORN)
ASGI = ("rgunicorn-asgi", "granian-asgi", "uvicorn", "gunicorn-uvicorn")
THREADED = ("rgunicorn-threads", "rgunicorn-coro", "granian", "uwsgi", "gunicorn-gthread")

ALL = (
    Workload(
        "hello", "Hello world, 64 keep-alive connections",
        ("rgunicorn-event", "rgunicorn-threads", "rgunicorn-coro", "rgunicorn-sync", "nginx", *PLAIN[2:]),
    ),
    Workload("10kb", "A 10 KB answer, 64 connections", PLAIN, app="apps:ten_kb", expect=TEN_KB),
    Workload(
        "echo", "A 10 KB POST echoed, 64 connections", PLAIN,
        app="apps:echo", expect=None, method="POST", body=TEN_KB,
    ),
    Workload(
        "pipeline", "Hello world, pipelined 16 deep, 64 connections",
        (*RGUNICORN, "nginx", *C_AND_RUST, "uvicorn", "gunicorn-gevent", "gunicorn-gthread"), depth=16,
        note="wrk can't tell the latency of pipelined requests. A server that doesn't answer all 16 isn't timed.",
    ),
    Workload(
        "flask", "A Flask JSON view, 64 connections", FRAMEWORK, app="flask_app:app",
        expect=b'{"message":"Hello from Flask","path":"/","scheme":"http"}\n',
    ),
    Workload(
        "django", "A Django JSON view, 64 connections", FRAMEWORK, app="django_app:application",
        expect=b'{"message": "Hello from Django", "path": "/", "secure": false}',
    ),
    Workload("asgi", "ASGI: hello world, 64 connections", ASGI),
    Workload("asgi-10kb", "ASGI: a 10 KB answer, 128 connections", ASGI, app="apps:ten_kb", expect=TEN_KB, connections=128),
    Workload(
        "asgi-echo", "ASGI: a 10 KB POST echoed, 128 connections", ASGI,
        app="apps:echo", expect=None, method="POST", body=TEN_KB, connections=128,
    ),
    Workload(
        "fastapi", "A FastAPI JSON view, 64 connections", ASGI, app="fastapi_app:app",
        expect=b'{"message":"Hello from FastAPI","path":"/"}',
    ),
    Workload(
        "websocket", "ASGI: WebSocket messages of 32 bytes echoed, 64 connections",
        ("rgunicorn-asgi", "granian-asgi", "uvicorn"), app="apps:websocket_echo", websocket=True,
        note="benches/websocket_load.rs sends the next message on a connection when the last has come back. uvicorn has the "
        "library websockets, as by itself. No compression: the client offers none.",
    ),
    Workload("gevent", "Hello world in greenlets of gevent, 64 connections", ("rgunicorn-gevent", "gunicorn-gevent")),
    Workload("tornado", "Hello world in tornado's loop, 64 connections", ("rgunicorn-tornado", "gunicorn-tornado")),
    Workload(
        "tornado-site", "A handler of tornado's own, 64 connections", ("rgunicorn-tornado", "gunicorn-tornado"),
        app="tornado_app:app",
    ),
    Workload(
        "sleep", "A handler that sleeps 10 ms, 200 connections, 200 threads", (*THREADED, "gunicorn-gevent"),
        app="apps:sleep", expect=b"slept\n", connections=200, threads=200,
        note="The ideal is 20,000 requests a second. Gevent has greenlets, as many as connections.",
    ),
    Workload(
        "sleep-2000", "A handler that sleeps 10 ms, 2,000 connections, 2,000 threads",
        ("rgunicorn-coro", "rgunicorn-threads", "granian", "gunicorn-gevent"),
        app="apps:sleep", expect=b"slept\n", connections=2000, threads=2000,
    ),
    Workload(
        "psycopg2", "psycopg2 asks PostgreSQL for `pg_sleep(0.05)`, 100 connections, 100 threads",
        ("rgunicorn-coro", "rgunicorn-threads", "gunicorn-gthread", "gunicorn-gevent"),
        app="postgresql_app:app", expect=b"asked\n", connections=100, threads=100, postgresql=True, seconds=6,
        note="The ideal is 2,000 requests a second. psycopg2 is as it comes: it waits in C, where gevent can't have others run. "
        "PostgreSQL is on the load generator's core.",
    ),
    Workload(
        "close", "A connection a request, 64 at a time",
        ("rgunicorn-sync", "rgunicorn-event", "nginx", *C_AND_RUST, "gunicorn-sync"), close=True,
    ),
    Workload(
        "log", "Access log to a file, 64 connections", ("rgunicorn-event", "rgunicorn-event-log"),
        note="The log must have a line for each request, or the row isn't shown.",
    ),
    Workload(
        "curve", "Hello world by number of threads, 64 connections",
        tuple(f"rgunicorn-threads-{n}" for n in (1, 4, 64, 200)),
    ),
    Workload(
        "busy", "Quick requests beside two that compute, 20 threads", (*THREADED, "gunicorn-gevent"),
        app="apps:busy", expect=b"done\n", threads=20, beside_busy=True, seconds=6,
        note="Two clients ask, each again and again, for an answer that takes 1 s of computing; beside them 50 quick "
        "requests a second are sent on time, each on a connection of its own, whether or not the last was answered. "
        "Latency is that of the quick ones, from the moment at which they were due.",
    ),
)
