"""A program that has a server in it, as gunicorn's documentation has it."""

import os
import sys

from gunicorn.app.base import BaseApplication


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{__name__} {os.environ.get('MODE')} {environ['wsgi.multiprocess']}".encode()]


class Standalone(BaseApplication):
    def __init__(self, application, options=None):
        self.options = options or {}
        self.application = application
        super().__init__()

    def load_config(self):
        for name, value in self.options.items():
            if name in self.cfg.settings and value is not None:
                self.cfg.set(name.lower(), value)

    def load(self):
        return self.application


def post_worker_init(worker):
    worker.log.warning("a worker of the program's")


if __name__ == "__main__":
    if "FORGET" not in os.environ:
        Standalone(
            application, {"workers": 2, "raw_env": ["MODE=embedded"], "post_worker_init": post_worker_init}
        ).run()
        sys.exit("run() has returned")
