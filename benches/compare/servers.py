"""The servers and how each is started: one worker, no access log, nothing that slows it down."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workloads import Workload

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Start:
    """What a command line may need to know."""

    bin: Path
    rgunicorn: Path
    nginx: str | None
    workload: Workload
    port: int
    directory: Path

    @property
    def at(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def access_log(self) -> Path:
        return self.directory / "access.log"


@dataclass(frozen=True)
class Server:
    label: str
    package: str | None
    """The package without which it is left out; None for what isn't from PyPI."""
    command: Callable[[Start], list]
    logs: bool = False


def rgunicorn(worker: str, threads: int | None = None, log: bool = False) -> Callable[[Start], list]:
    def command(s: Start) -> list:
        more = ["--threads", threads or s.workload.threads] if worker in ("threads", "coro") else []
        # Some more than there are, as some may be closing.
        more += ["--worker-connections", s.workload.connections + 100] if s.workload.connections > 900 else []
        more += ["--access-logfile", s.access_log] if log else []
        return [s.rgunicorn, "-k", worker, "-w", 1, "-b", s.at, "--log-level", "warning", *more, s.workload.app]

    return command


def gunicorn(worker: str) -> Callable[[Start], list]:
    def command(s: Start) -> list:
        # One thread makes gthread gunicorn's slowest; four is what its documentation starts with.
        more = ["--threads", max(4, s.workload.threads)] if worker == "gthread" else []
        more += ["--worker-connections", s.workload.connections + 100] if s.workload.connections > 900 else []
        return [
            s.bin / "gunicorn", "-k", worker, "-w", 1, "-b", s.at, "--log-level", "warning", "--no-control-socket",
            *more, s.workload.app,
        ]

    return command


def granian(s: Start) -> list:
    return [
        s.bin / "granian", "--interface", "wsgi", "--workers", 1, "--blocking-threads", s.workload.threads,
        "--http", 1, "--no-ws", "--no-access-log", "--log-level", "warning",
        *(["--http1-pipeline-flush"] if s.workload.depth > 1 else []),
        "--host", "127.0.0.1", "--port", s.port, s.workload.app,
    ]


def uwsgi(s: Start) -> list:
    # A connection that is kept alive holds its thread: fewer threads than connections, and some clients starve.
    # `--http11-socket` doesn't heed `Connection: close`, so where that is asked for the plain socket serves.
    closes = s.workload.close or s.workload.beside_busy
    socket = ["--http-socket", s.at, "--add-header", "Connection: close"] if closes else ["--http11-socket", s.at]
    count = s.workload.threads if closes else max(s.workload.threads, s.workload.connections)
    threads = ["--enable-threads", "--threads", count] if count > 1 else []
    return [
        s.bin / "uwsgi", *socket, "--master", "--processes", 1, *threads, "--listen", 128,
        "--disable-logging", "--die-on-term", "--need-app", "--virtualenv", s.bin.parent, "--module", s.workload.app,
    ]


def uvicorn(s: Start) -> list:
    return [
        s.bin / "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
        *(["--ws", "websockets"] if s.workload.websocket else []),
        "--host", "127.0.0.1", "--port", s.port, asgi_app(s.workload.app),
    ]


def rgunicorn_asgi(s: Start) -> list:
    return [
        s.rgunicorn, "-k", "asgi", "--asgi-loop", "uvloop", "-w", 1, "-b", s.at, "--log-level", "warning",
        asgi_app(s.workload.app),
    ]


def gunicorn_uvicorn(s: Start) -> list:
    return [
        s.bin / "gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-w", 1, "-b", s.at, "--log-level", "warning",
        "--no-control-socket", asgi_app(s.workload.app),
    ]


def granian_asgi(s: Start) -> list:
    return [
        s.bin / "granian", "--interface", "asgi", "--loop", "uvloop", "--workers", 1, "--http", 1,
        *([] if s.workload.websocket else ["--no-ws"]), "--no-access-log", "--log-level", "warning",
        "--host", "127.0.0.1", "--port", s.port,
        asgi_app(s.workload.app),
    ]


def asgi_app(app: str) -> str:
    """The counterpart of a WSGI application of apps.py; others are ASGI applications themselves."""
    return f"asgi_{app}" if app.startswith("apps:") else app


def script(name: str) -> Callable[[Start], list]:
    return lambda s: [s.bin / "python", HERE / "serve.py", name, s.workload.app, s.port]


def nginx(s: Start) -> list:
    configuration = s.directory / "nginx.conf"
    configuration.write_text(
        f"""daemon off; worker_processes 1; pid {s.directory}/nginx.pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 1000000000; default_type text/plain;
    client_body_temp_path {s.directory}; proxy_temp_path {s.directory}; fastcgi_temp_path {s.directory};
    uwsgi_temp_path {s.directory}; scgi_temp_path {s.directory};
    server {{ listen {s.at} backlog=2048; return 200 "Hello, world!\\n"; }}
}}
"""
    )
    return [s.nginx, "-p", s.directory, "-e", "stderr", "-c", configuration]


ALL = {
    "rgunicorn-event": Server("rgunicorn event", None, rgunicorn("event")),
    "rgunicorn-threads": Server("rgunicorn threads", None, rgunicorn("threads")),
    "rgunicorn-coro": Server("rgunicorn coro", None, rgunicorn("coro")),
    "rgunicorn-sync": Server("rgunicorn sync", None, rgunicorn("sync")),
    "rgunicorn-event-log": Server("rgunicorn event, access log", None, rgunicorn("event", log=True), logs=True),
    **{
        f"rgunicorn-threads-{n}": Server(f"rgunicorn threads, {n}", None, rgunicorn("threads", n))
        for n in (1, 4, 64, 200)
    },
    "nginx": Server("nginx `return 200`", None, nginx),
    "granian": Server("Granian", "granian", granian),
    "uwsgi": Server("uWSGI", "uwsgi", uwsgi),
    "bjoern": Server("bjoern", "bjoern", script("bjoern")),
    "fastwsgi": Server("fastwsgi", "fastwsgi", script("fastwsgi")),
    "rgunicorn-asgi": Server("rgunicorn asgi", None, rgunicorn_asgi),
    "rgunicorn-gevent": Server("rgunicorn gevent", "gevent", rgunicorn("gevent")),
    "rgunicorn-tornado": Server("rgunicorn tornado", "tornado", rgunicorn("tornado")),
    "gunicorn-tornado": Server("gunicorn tornado", "tornado", gunicorn("tornado")),
    "granian-asgi": Server("Granian (ASGI)", "granian", granian_asgi),
    "gunicorn-uvicorn": Server("gunicorn with uvicorn-worker", "uvicorn-worker", gunicorn_uvicorn),
    "uvicorn": Server("uvicorn (ASGI)", "uvicorn", uvicorn),
    "gunicorn-gevent": Server("gunicorn gevent", "gevent", gunicorn("gevent")),
    "gunicorn-gthread": Server("gunicorn gthread", "gunicorn", gunicorn("gthread")),
    "gunicorn-sync": Server("gunicorn sync", "gunicorn", gunicorn("sync")),
}
