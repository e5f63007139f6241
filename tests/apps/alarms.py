"""An alarm that is set while the application loads, in the main thread."""

import json
import signal
import threading

rung = []
signal.signal(signal.SIGALRM, lambda *_: rung.append(threading.current_thread() is threading.main_thread()))
signal.setitimer(signal.ITIMER_REAL, 1)


def app(environ, start_response):
    body = json.dumps([len(rung), all(rung) and bool(rung)]).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
