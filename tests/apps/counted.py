"""Says which process has imported it."""

import os

from either import Either

LOADED_BY = os.getpid()


@Either
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"loaded by {LOADED_BY}".encode()]
