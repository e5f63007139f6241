"""A logger of one's own, of the configuration file itself: lines of JSON that say what it was given."""

import json
import os
import sys

from gunicorn.glogging import Logger


def line(**facts):
    os.write(sys.stdout.fileno(), (json.dumps(facts) + "\n").encode())


class Telling(Logger):
    def setup(self, cfg):
        super().setup(cfg)
        self.tag = cfg.proc_name

    def info(self, msg, *args, **kwargs):
        line(level="info", process=os.getpid(), tag=self.tag, text=msg % args if args else msg)

    def warning(self, msg, *args, **kwargs):
        line(level="warning", text=msg)

    def exception(self, msg, *args, **kwargs):
        frames = []
        raised, traceback = sys.exc_info()[1:]
        while traceback is not None:
            frames.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
        line(level="exception", text=msg % args if args else msg, raised=repr(raised), frames=frames)

    def access(self, resp, req, environ, request_time):
        line(
            level="access",
            status=resp.status,
            code=int(resp.status.split()[0]),
            sent=resp.sent,
            answered=dict(resp.headers).get("Content-Type", "")[:10],
            method=req.method,
            path=req.path,
            query=req.query,
            asked=dict(req.headers).get("X-ASKED"),
            environ=[environ["REQUEST_METHOD"], environ["RAW_URI"], environ["REMOTE_ADDR"], environ.get("HTTP_X_ASKED")],
            quick=0 <= request_time.total_seconds() < 10,
            line=self.access_log_format(resp, req, environ, request_time),
        )

    def access_log_format(self, resp, req, environ, request_time):
        return self.cfg.access_log_format % self.atoms_wrapper_class(self.atoms(resp, req, environ, request_time))

    def atoms(self, resp, req, environ, request_time):
        return super().atoms(resp, req, environ, request_time) | {"mine": "an atom"}

    def now(self):
        return "[now]"


logger_class = Telling
access_log_format = "%(t)s %(r)s %(s)s %({x-asked}i)s %(mine)s %(nothing)s"
if "SKIP" in os.environ:
    access_log_skip = ["/hits"]
worker_class = os.environ.get("CLASS", "sync")
threads = 4 if worker_class in ("threads", "gthread") else 1
proc_name = "named"
