"""Starts a server that has no command of its own: `serve.py bjoern|fastwsgi module:name port`."""

import importlib
import sys

server, target, port = sys.argv[1:]
module, _, name = target.partition(":")
app = getattr(importlib.import_module(module), name)

if server == "bjoern":
    import bjoern

    bjoern.run(app, "127.0.0.1", int(port))
else:
    import fastwsgi

    fastwsgi.server.hook_sigint = 2  # its own handling of Ctrl-C: the loop ends
    fastwsgi.run(wsgi_app=app, host="127.0.0.1", port=int(port), loglevel=0)
