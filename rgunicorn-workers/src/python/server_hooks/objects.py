"""What server hooks are called with: objects with the attributes of gunicorn's. Executed by mod.rs.

`write(level, text)` writes a line to the error log; mod.rs adds it.
"""

import functools
import importlib
import inspect
import os
import signal
import socket
import sys
import time
import traceback
from urllib.parse import unquote


class Problem(Exception):
    """Something that a sentence explains better than a traceback."""


class HaltServer(BaseException):
    """Raised by a hook of the main process to end the server (gunicorn.errors.HaltServer)."""

    def __init__(self, reason, exit_status=1):
        super().__init__(reason, exit_status)
        self.reason = reason
        self.exit_status = exit_status

    def __str__(self):
        return f"<HaltServer {self.reason!r} {self.exit_status}>"


ARITY = {
    "on_starting": 1, "on_reload": 1, "when_ready": 1, "pre_fork": 2, "post_fork": 2, "post_worker_init": 1,
    "worker_int": 1, "worker_abort": 1, "pre_exec": 1, "pre_request": 2, "post_request": 4, "child_exit": 2,
    "worker_exit": 2, "nworkers_changed": 3, "on_exit": 1,
}


# Finding the functions.


def functions(space, names):
    """The hooks by name. `space` is what a configuration file has set, `names` what each hook is called there."""
    return {name: fitting(name, function(space.get(name, dotted), name)) for name, dotted in names.items()}


def function(value, name):
    if not isinstance(value, str):
        if not callable(value):
            raise Problem(f"{name}: a function is needed, not {value!r}")
        return value
    module, dot, attribute = value.rpartition(".")
    if not dot:
        raise Problem(f"{name}: {value!r} names no function; 'module.function' does")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise Problem(f"{name}: {value!r} can't be imported: {error}") from None
    except AttributeError:
        raise Problem(f"{name}: there is no {attribute!r} in the module {module!r}") from None


def fitting(name, call):
    """The function, if it takes as many arguments as it will get."""
    wanted = ARITY[name]
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):
        return call
    for count in (4, 3, 2) if name == "post_request" else (wanted,):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return call if count == wanted else lambda *arguments: call(*arguments[:count])
    raise Problem(f"{name}: {getattr(call, '__qualname__', call)} must take {wanted} arguments")


# The objects.


class Log:
    """`server.log` and `worker.log`: the error log."""

    def __init__(self, cfg):
        self.cfg = cfg

    def debug(self, message, *arguments, **options):
        self._log("debug", message, arguments, **options)

    def info(self, message, *arguments, **options):
        self._log("info", message, arguments, **options)

    def warning(self, message, *arguments, **options):
        self._log("warning", message, arguments, **options)

    warn = warning

    def error(self, message, *arguments, **options):
        self._log("error", message, arguments, **options)

    def critical(self, message, *arguments, **options):
        self._log("critical", message, arguments, **options)

    def exception(self, message, *arguments, exc_info=True, **options):
        self._log("error", message, arguments, exc_info=exc_info, **options)

    def log(self, level, message, *arguments, **options):
        names = ((50, "critical"), (40, "error"), (30, "warning"), (20, "info"), (0, "debug"))
        if isinstance(level, str):
            name = level.lower()
        else:
            name = next(name for least, name in names if level >= least)
        self._log(name, message, arguments, **options)

    def _log(self, level, message, arguments, exc_info=None, **_options):
        # As logging has it: one dictionary is for %(name)s.
        if len(arguments) == 1 and isinstance(arguments[0], dict) and arguments[0]:
            arguments = arguments[0]
        text = str(message)
        try:
            text = text % arguments if arguments else text
        except (TypeError, ValueError, KeyError):
            text = f"{text} {arguments!r}"
        if exc_info:
            if isinstance(exc_info, BaseException):
                exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
            elif not isinstance(exc_info, tuple):
                exc_info = sys.exc_info()
            if exc_info[0] is not None:
                text += "\n" + "".join(traceback.format_exception(*exc_info)).rstrip()
        write(level, text)


def nothing(*_arguments):
    """What a hook is that nobody has set."""


class Setting:
    """An item of `cfg.settings`."""

    def __init__(self, name, value, section):
        self.name, self.value, self.section = name, value, section

    def get(self):
        return self.value


class Config:
    """`cfg`: the settings by their names, and what gunicorn derives from them."""

    def __init__(self, settings, hooks):
        self.settings = {name: Setting(name, value, section) for name, value, section in settings}
        for name in ARITY:
            self.settings[name].value = hooks.get(name, nothing)

    def __getattr__(self, name):
        try:
            return self.__dict__["settings"][name].value
        except KeyError:
            raise AttributeError(f"there is no setting {name!r}") from None

    def __str__(self):
        return "\n".join(f"{name} = {setting.value}" for name, setting in sorted(self.settings.items()))

    @property
    def proc_name(self):
        return self.settings["proc_name"].value or self.settings["default_proc_name"].value

    @property
    def address(self):
        return [parsed(address) for address in self.bind]

    @property
    def uid(self):
        return os.geteuid() if self.user is None else self.user

    @property
    def gid(self):
        return os.getegid() if self.group is None else self.group

    @property
    def env(self):
        return dict(pair.split("=", 1) for pair in self.raw_env if "=" in pair)

    @property
    def is_ssl(self):
        return self.certfile or self.keyfile

    @property
    def worker_class_str(self):
        return "gthread" if self.worker_class == "sync" and self.threads > 1 else self.worker_class


def parsed(address):
    if address.startswith("unix:"):
        return address[5:]
    if address.startswith("fd://"):
        return int(address[5:])
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class App:
    """`server.app` and `worker.app`: the application, where it is loaded."""

    def __init__(self):
        self.cfg = None
        self.callable = None

    def wsgi(self):
        return self.callable


class Listener:
    """A listening socket, by its descriptor."""

    def __init__(self, text, descriptor):
        self._text, self._descriptor = text, descriptor

    def __str__(self):
        return self._text

    def fileno(self):
        return self._descriptor

    def getsockname(self):
        with socket.socket(fileno=os.dup(self._descriptor)) as copy:
            return copy.getsockname()


class Beat:
    """`worker.tmp`: gunicorn's heartbeat file. Ours is in shared memory, and not for Python."""

    def last_update(self):
        return time.monotonic()

    def notify(self):
        pass

    def close(self):
        pass


class Worker:
    """A worker: in the main process for as long as it lives, in the worker itself it is the copy that was forked."""

    def __init__(self, server, age):
        self.age, self.ppid, self.pid = age, server.pid, "[booting]"
        self.cfg, self.log, self.app = server.cfg, server.log, server.app
        self.timeout = server.timeout / 2
        self.sockets = server.LISTENERS
        self.booted = self.aborted = False
        self.alive = True
        self.nr = 0
        self.max_requests = server.cfg.max_requests or sys.maxsize
        self.tmp = Beat()
        self.wsgi = None

    def __str__(self):
        return f"<Worker {self.pid}>"

    def notify(self):
        self.tmp.notify()


class Server:
    """The main process, as `server`."""

    def __init__(self):
        self.pid = os.getpid()
        self.WORKERS, self.LISTENERS = {}, []
        self.num_workers, self.worker_age = None, 0
        self.reexec_pid = self.master_pid = 0
        self.master_name = "Master"
        self.systemd = False
        self.app = App()
        self.START_CTX = {"args": [sys.executable, *sys.argv], "cwd": os.getcwd(), 0: sys.executable}
        self.cfg = self.log = None
        self._hooks = {}
        # The worker that is being made; in a worker, itself.
        self._worker = None
        # The signal that has stopped the worker.
        self._interrupted = False

    HaltServer = HaltServer

    @property
    def timeout(self):
        return self.cfg.timeout

    @property
    def address(self):
        return self.cfg.address

    @property
    def proc_name(self):
        return self.cfg.proc_name

    @property
    def worker_class(self):
        return self.cfg.worker_class

    def kill_worker(self, pid, sig):
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            pass

    def kill_workers(self, sig):
        for pid in list(self.WORKERS):
            self.kill_worker(pid, sig)

    def halt(self, reason=None, exit_status=0):
        raise HaltServer(reason, exit_status)

    # What mod.rs calls. The hook itself is looked up last, so that it finds the objects up to date.

    def _adopt(self, settings, space, names):
        """Has other settings and hooks count; returns those from before."""
        hooks = functions(space, names)
        before = self.cfg, self._hooks, self.num_workers
        self._set(Config(settings, hooks), hooks)
        return before

    def _set(self, cfg, hooks):
        self.cfg, self._hooks, self.app.cfg = cfg, hooks, cfg
        if self.log is None:
            self.log = Log(cfg)
        self.log.cfg = cfg

    def _restore(self, before):
        cfg, hooks, self.num_workers = before
        self._set(cfg, hooks)

    def _call(self, name, *arguments):
        hook = self._hooks.get(name)
        if hook is not None:
            hook(*arguments)

    def _resized(self, new, old):
        self.num_workers = new
        self._call("nworkers_changed", self, new, old)

    def _listens(self, listeners):
        self.LISTENERS = [Listener(*listener) for listener in listeners]

    def _ready(self, listeners):
        self._listens(listeners)
        self._call("when_ready", self)

    def _before_fork(self, age):
        self.worker_age = age
        self._worker = Worker(self, age)
        self._call("pre_fork", self, self._worker)

    def _forked(self, pid):
        worker, self._worker = self._worker, None
        if worker is not None and pid is not None:
            worker.pid = pid
            self.WORKERS[pid] = worker

    def _born(self, listeners):
        worker = self._worker
        worker.pid = os.getpid()
        self._listens(listeners)
        worker.sockets = self.LISTENERS
        self._call("post_fork", self, worker)

    def _loaded(self, application):
        self.app.callable = self._worker.wsgi = application

    def _booted(self):
        self._call("post_worker_init", self._worker)
        self._worker.booted = True

    def _heeds(self):
        """The signals to be told of."""
        hooks = {"worker_int": (signal.SIGINT, signal.SIGQUIT), "worker_abort": (signal.SIGABRT,)}
        return [int(number) for name, numbers in hooks.items() if name in self._hooks for number in numbers]

    def _signalled(self, number, _frame):
        if number == signal.SIGABRT:
            self._aborted()
        else:
            self._told_to_leave()

    def _told_to_leave(self):
        if not self._interrupted:
            self._interrupted = True
            self._worker.alive = False
            self._guarded("worker_int", self._worker)

    def _aborted(self):
        self._worker.alive = False
        self._worker.aborted = True
        self._guarded("worker_abort", self._worker)
        self.log.info("Worker exiting (pid: %s)", self._worker.pid)
        self._leaving()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass
        os._exit(1)

    def _leaving(self):
        self._guarded("worker_exit", self, self._worker)

    def _reaped(self, pid):
        worker = self.WORKERS.pop(pid, None)
        if worker is not None:
            self._call("child_exit", self, worker)

    def _guarded(self, name, *arguments):
        """For hooks whose failure changes nothing."""
        try:
            self._call(name, *arguments)
        except SystemExit:
            pass
        except BaseException:
            self.log.error("Error in the hook %s", name, exc_info=True)


# Requests.


class Request:
    """`req`."""

    def __init__(self, method, uri, path, query, version, scheme, headers, peer, proxied):
        self.method, self.uri, self.path, self.query, self.fragment = method, uri, path, query, ""
        self.version, self.scheme, self.headers, self.trailers = version, scheme, headers, []
        # For a Unix socket, as gunicorn has it: nothing.
        self.peer_addr = self.remote_addr = peer if peer[1] is not None else ""
        names = ("proxy_protocol", "client_addr", "client_port", "proxy_addr", "proxy_port")
        self.proxy_protocol_info = dict(zip(names, proxied)) if proxied else None
        self.body = None
        self.must_close = False
        self._original = list(headers)

    def get_header(self, name):
        wanted = name.upper()
        return next((value for name, value in self.headers if name == wanted), None)

    def should_close(self):
        connection = (self.get_header("CONNECTION") or "").lower().strip()
        if self.must_close or connection == "close":
            return True
        return connection != "keep-alive" and self.version <= (1, 0)

    def _changed(self):
        """The headers, if the hook has changed them."""
        return self.headers if self.headers != self._original else None


class Answer:
    """`resp`: what was answered."""

    def __init__(self, status, headers):
        self.status = status
        self.status_code = int(status.split(" ", 1)[0]) if status else None
        self.headers = headers
        self.headers_sent = status is not None
        length = next((value for name, value in headers if name.lower() == "content-length"), None)
        self.response_length = int(length) if length is not None and length.isdigit() else None
        self.sent = 0


def unanswered():
    """What `resp` is where the application has failed before it had started a response."""
    return Answer(None, [])


class Requests:
    """The hooks around each request, for one worker."""

    def __init__(self, server):
        self.worker = server._worker
        self.log = server.log
        self.before = server._hooks.get("pre_request")
        self.after = server._hooks.get("post_request")

    def begin(self, *facts):
        request = Request(*facts)
        if self.before is not None:
            try:
                self.before(self.worker, request)
            except BaseException:
                self.end(request, {}, None, 0)
                raise
        self.worker.nr += 1
        return request

    def end(self, request, environ, answer, sent):
        if self.after is not None:
            if answer is not None:
                answer.sent = sent
            try:
                self.after(self.worker, request, environ, answer)
            except BaseException:
                self.log.error("Exception in post_request hook", exc_info=True)


def environ_of(request):
    """An environ for the hooks of an ASGI application."""
    peer = request.peer_addr or ("", "")
    environ = {
        "REQUEST_METHOD": request.method,
        "RAW_URI": request.uri,
        "PATH_INFO": unquote(request.path, encoding="latin-1"),
        "QUERY_STRING": request.query,
        "SERVER_PROTOCOL": "HTTP/%d.%d" % request.version,
        "REMOTE_ADDR": peer[0],
        "REMOTE_PORT": str(peer[1]),
        "wsgi.url_scheme": request.scheme,
    }
    change_environ(environ, request.headers)
    return environ


def change_environ(environ, headers):
    """Has a WSGI environ say what the headers are now."""
    for key in [key for key in environ if key.startswith("HTTP_")]:
        del environ[key]
    for name, value in headers:
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
            value = f"{environ[key]},{value}" if key in environ else value
        environ[key] = str(value)


def change_scope(scope, headers):
    """Has an ASGI scope say what the headers are now."""
    scope["headers"] = [(name.lower().encode("latin-1"), str(value).encode("latin-1")) for name, value in headers]
