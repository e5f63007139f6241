"""The base of worker classes."""

import os
import random
import signal
import sys
import time
from datetime import timedelta

from .. import util
from .workertmp import WorkerTmp


class Worker:
    """A process that serves. A subclass has a `run()`, which calls `notify()` at least once in each `self.timeout`
    seconds and ends soon after `self.alive` was set to False."""

    SIGNALS = [
        getattr(signal, f"SIG{name}") for name in "ABRT HUP QUIT INT TERM USR1 USR2 WINCH CHLD".split()
    ]
    PIPE = []

    def __init__(self, age, ppid, sockets, app, timeout, cfg, log):
        """Changes nothing about the process: `init_process()` is the place for that."""
        self.age = age
        self.pid = "[booting]"
        self.ppid = ppid
        self.sockets = sockets
        self.app = app
        self.timeout = timeout
        self.cfg = cfg
        self.log = log
        self.booted = False
        self.aborted = False
        self.reloader = None
        self.alive = True
        self.nr = 0
        self.max_requests = sys.maxsize
        if cfg.max_requests > 0:
            self.max_requests = cfg.max_requests + random.randint(0, cfg.max_requests_jitter)
        self.tmp = WorkerTmp(cfg)

    def __str__(self):
        return f"<Worker {self.pid}>"

    def notify(self):
        """Says that this worker is alive."""
        self.tmp.notify()

    def run(self):
        """Serves until it is to stop."""
        raise NotImplementedError(f"{type(self).__module__}.{type(self).__qualname__} has no run()")

    def init_process(self):
        """Makes the process ready, loads the application, and runs. One that overrides it calls it last."""
        os.environ.update(self.cfg.env)
        util.set_owner_process(self.cfg.uid, self.cfg.gid, initgroups=self.cfg.initgroups)
        util.seed()

        # Signals write to it, so that whoever waits for it and the sockets wakes up.
        self.PIPE = os.pipe()
        for end in self.PIPE:
            util.set_non_blocking(end)
            util.close_on_exec(end)
        for sock in self.sockets:
            util.close_on_exec(sock)
        util.close_on_exec(self.tmp.fileno())
        self.wait_fds = [*self.sockets, self.PIPE[0]]
        self.log.close_on_exec()

        self.init_signals()
        self.load_wsgi()
        self.cfg.post_worker_init(self)
        self.booted = True
        self.run()

    def load_wsgi(self):
        self.wsgi = self.app.wsgi()

    def init_signals(self):
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGQUIT, self.handle_quit)
        signal.signal(signal.SIGTERM, self.handle_exit)
        signal.signal(signal.SIGINT, self.handle_quit)
        signal.signal(signal.SIGWINCH, self.handle_winch)
        signal.signal(signal.SIGUSR1, self.handle_usr1)
        signal.signal(signal.SIGABRT, self.handle_abort)
        # These are no reason to interrupt what a request waits for.
        signal.siginterrupt(signal.SIGTERM, False)
        signal.siginterrupt(signal.SIGUSR1, False)
        signal.set_wakeup_fd(self.PIPE[1])

    def handle_exit(self, sig, frame):
        self.alive = False

    def handle_quit(self, sig, frame):
        self.alive = False
        self.cfg.worker_int(self)
        time.sleep(0.1)
        sys.exit(0)

    def handle_abort(self, sig, frame):
        self.alive = False
        self.cfg.worker_abort(self)
        sys.exit(1)

    def handle_usr1(self, sig, frame):
        self.log.reopen_files()

    def handle_winch(self, sig, frame):
        self.log.debug("worker: SIGWINCH ignored.")

    def handle_error(self, req, client, addr, exc):
        """Logs what went wrong with a request, and tells the client as much as concerns it."""
        addr = addr or ("", -1)
        where = " ".join(str(getattr(req, name)) for name in ("method", "uri") if getattr(req, name, None))
        self.log.exception("Error handling request %s", where or "(no URI read)")
        if req is not None and where:
            response = _Failed()
            environ = {
                "REQUEST_METHOD": getattr(req, "method", "-"),
                "RAW_URI": getattr(req, "uri", "-"),
                "SERVER_PROTOCOL": "HTTP/%s" % ".".join(map(str, getattr(req, "version", (1, 1)))),
                "REMOTE_ADDR": addr[0],
            }
            self.log.access(response, getattr(req, "headers", ()), environ, timedelta())
        try:
            util.write_error(client, 500, "Internal Server Error", "")
        except Exception:
            self.log.debug("Failed to send error message.")


class _Failed:
    status = "500 Internal Server Error"
    headers = ()
    sent = 0
