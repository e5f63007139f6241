"""Runs a worker class with gunicorn's interface. Executed by mod.rs."""

import importlib
import os
import socket
import time


class Problem(Exception):
    """Something that a sentence explains better than a traceback."""


def find(path):
    """The class that `path` names: `package.module.Class`, or `egg:distribution#name`."""
    if path.startswith("egg:"):
        from gunicorn.util import load_class

        try:
            found = load_class(path)
        except RuntimeError as error:
            raise Problem(f"worker_class {path!r}: {error}") from None
    else:
        module_name, _, name = path.rpartition(".")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            # Its own module, or a package around it; not one that it imports itself.
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise
            raise Problem(f"worker_class {path!r}: {error}; a class is named as package.module.Class") from None
        if not hasattr(module, name):
            raise Problem(f"worker_class {path!r}: the module {module_name!r} has no {name!r}")
        found = getattr(module, name)
    check(path, found)
    return found


def check(path, found):
    from gunicorn.workers.base import Worker

    if not isinstance(found, type):
        raise Problem(f"worker_class {path!r} is of type {type(found).__name__!r}, where a class is needed")
    for method in ("init_process", "run"):
        if not callable(getattr(found, method, None)):
            raise Problem(
                f"worker_class {path!r} has no method {method}(): a worker class derives from gunicorn.workers.base.Worker,"
                " or has all of its interface"
            )
    if getattr(found, "run") is Worker.run:
        raise Problem(f"worker_class {path!r} has no method run() of its own, which is what a worker does")


def prepare(path):
    """What the class wants done to the process before the application is imported."""
    found = find(path)
    if hasattr(found, "setup"):
        found.setup()
    return found


def listeners(inherited, cfg, log):
    """The listening sockets, as gunicorn's own objects."""
    from gunicorn import sock

    kinds = {socket.AF_INET: sock.TCPSocket, socket.AF_INET6: sock.TCP6Socket, socket.AF_UNIX: sock.UnixSocket}
    made = []
    for descriptor in inherited:
        with socket.socket(fileno=os.dup(descriptor)) as probe:
            family, address = probe.family, probe.getsockname()
        made.append(kinds[family](address, cfg, log, fd=descriptor))
    return made


def application(cfg, server):
    """What the worker asks for the application."""
    from gunicorn.app.wsgiapp import WSGIApplication

    class Application(WSGIApplication):
        def __init__(self):
            # The settings are read already.
            self.usage = self.prog = self.callable = self.logger = None
            self.cfg = cfg
            self.app_uri = cfg.wsgi_app

        def load_config(self):
            pass

        def load(self):
            return server.load()

    return Application()


def make(server, path, inherited, age, parent):
    """The worker, not yet running."""
    worker_class = prepare(path)
    cfg = server.settings()
    cfg.set("worker_class", worker_class)
    for name, function in server.hooks():
        cfg.set(name, function)
    log = server.log() or cfg.logger_class(cfg)
    if hasattr(log, "count_requests"):
        log.count_requests()
    if hasattr(worker_class, "check_config"):
        worker_class.check_config(cfg, log)
    sockets = listeners(inherited, cfg, log)
    worker = worker_class(age, parent, sockets, application(cfg, server), cfg.timeout / 2, cfg, log)
    worker.pid = os.getpid()
    return worker


def run(worker, server):
    """Runs the worker to its end."""
    watch(worker, server)
    main = worker.run

    def run(*arguments, **options):
        # Its handlers are in place, the application is loaded.
        server.runs()
        return main(*arguments, **options)

    worker.run = run
    try:
        worker.init_process()
    finally:
        close = getattr(getattr(worker, "tmp", None), "close", None)
        if close is not None:
            close()


def watch(worker, server):
    """Has the server see the worker's signs of life, and log files follow a rotation."""
    tmp = getattr(worker, "tmp", None)
    if tmp is not None:
        worker.tmp = Heart(tmp, server)
    elif hasattr(worker, "notify"):
        notify = worker.notify

        def beat():
            server.beat()
            return notify()

        worker.notify = beat
    log = getattr(worker, "log", None)
    if hasattr(log, "reopen_files"):
        reopen = log.reopen_files

        def reopen_files():
            server.reopen_logs()
            return reopen()

        log.reopen_files = reopen_files


class Heart:
    """In the place of the file by which gunicorn's workers say that they are alive."""

    def __init__(self, tmp, server):
        self._tmp, self._server = tmp, server
        self._last = time.monotonic()

    def notify(self):
        self._last = time.monotonic()
        self._server.beat()

    def last_update(self):
        return self._last

    def __getattr__(self, name):
        return getattr(self._tmp, name)
