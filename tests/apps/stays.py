"""An application that stays in a request for good, and listens to nobody."""

import ctypes
import signal

from either import Either

# Functions of C's library, called with Python's lock.
libc = ctypes.PyDLL(None)


def wsgi(environ, start_response):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        try:
            signal.signal(number, signal.SIG_IGN)
        except ValueError:
            pass  # Not in the main thread.
    print("it stays", flush=True)
    while environ["PATH_INFO"] == "/spin":
        pass
    while True:
        libc.pause()


app = Either(wsgi)
