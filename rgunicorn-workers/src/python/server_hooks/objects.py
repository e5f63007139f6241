"""What server hooks are called with: objects with the attributes of gunicorn's. Executed by mod.rs.

`cfg`, `log` and `HaltServer` are those of the package `gunicorn` of ours.
"""

import importlib
import inspect
import os
import signal
import socket
import sys
import time

import _rgunicorn

HaltServer = _rgunicorn.ours("errors").HaltServer


class Problem(Exception):
    """Something that a sentence explains better than a traceback."""


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


def dotted(found):
    return f"{found.__module__}.{found.__qualname__}"


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

    def _adopt(self, cfg, space, names):
        """Has other settings, hooks and loggers count; returns those from before. `space` is what the configuration file
        has set, if it had to be executed."""
        hooks = functions(space, names)
        for name, hook in hooks.items():
            cfg.settings[name].value = hook
        # Objects that have no name by which they could be found.
        logger_class = space.get("logger_class")
        if isinstance(logger_class, type) and cfg.settings["logger_class"].value == dotted(logger_class):
            cfg.settings["logger_class"].value = logger_class
        if isinstance(space.get("logconfig_dict"), dict):
            cfg.settings["logconfig_dict"].value = space["logconfig_dict"]
        before = self.cfg, self._hooks, self.num_workers, self.log
        try:
            self._set_log(cfg)
        except BaseException:
            self._restore(before)
            raise
        self.cfg, self._hooks, self.app.cfg = cfg, hooks, cfg
        return before

    def _set_log(self, cfg):
        try:
            wanted = cfg.logger_class
        except RuntimeError as error:
            raise Problem(f"logger_class: {error}") from None
        if not callable(getattr(wanted, "setup", None)):
            raise Problem(f"logger_class: {wanted!r} has no setup(): a logger derives from gunicorn.glogging.Logger")
        try:
            if type(self.log) is wanted:
                self.log.setup(cfg)
            else:
                self.log = wanted(cfg)
        except RuntimeError as error:
            raise Problem(str(error)) from None

    def _restore(self, before):
        self.cfg, self._hooks, self.num_workers, self.log = before
        self.app.cfg = self.cfg
        if self.log is not None:
            self.log.setup(self.cfg)

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
