"""Says which process has imported it."""

import os

LOADED_BY = os.getpid()


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"loaded by {LOADED_BY}".encode()]
