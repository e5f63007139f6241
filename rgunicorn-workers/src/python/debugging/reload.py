"""Which files an application is made of, and what answers for one that can't be loaded. Executed by reload.rs."""

import glob
import os
import re
import sys


def files(more):
    """The files of all modules that are loaded by now, and of those that are named or match a pattern."""
    found = set()
    for module in tuple(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if isinstance(name, str):
            # The source, where the module came from its compiled form.
            found.add(os.path.abspath(re.sub(r"\.py[co]$", ".py", name)))
    for name in more:
        matching = glob.glob(name, recursive=True) if glob.has_magic(name) else [name]
        found.update(os.path.abspath(match) for match in matching)
    return sorted(found)


def files_of(report):
    """The files that a traceback goes through: those of modules that could not be loaded among them."""
    return [name for name in re.findall(r'^ *File "([^"]+)", line', report, re.MULTILINE) if os.path.exists(name)]


class StandIn:
    """An application, of WSGI and of ASGI, that answers with why there is none."""

    def __init__(self, report):
        self.report = report.encode(errors="replace")
        self.headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(self.report)))]

    def __call__(self, *call):
        return self.wsgi(*call) if len(call) == 2 else self.asgi(*call)

    def wsgi(self, environ, start_response):
        start_response("500 Internal Server Error", self.headers)
        return [self.report]

    async def asgi(self, scope, receive, send):
        if scope["type"] == "lifespan":
            for part in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{part}.complete"})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1011})
        else:
            headers = [(name.lower().encode(), value.encode()) for name, value in self.headers]
            await send({"type": "http.response.start", "status": 500, "headers": headers})
            await send({"type": "http.response.body", "body": self.report})
