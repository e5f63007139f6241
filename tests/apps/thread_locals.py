"""What native libraries keep for each thread, while requests wait."""

import ctypes
import json
import os
import threading
import time

own, of_thread = (ctypes.CDLL(os.environ[name]) for name in ("OWN", "OF_THREAD"))
for library in own, of_thread:
    library.where.restype = ctypes.POINTER(ctypes.c_long)
    library.get.restype, library.set.argtypes = ctypes.c_long, (ctypes.c_long,)
meeting = threading.Barrier(4)
places = set()


def kept(library, n):
    """Four requests have it at a time; each sets it and waits for the others."""
    library.set(n)
    meeting.wait(60)
    time.sleep(0.01)
    return [library.get() == n]


def own_kept(n):
    return kept(own, n)


def of_thread_kept(n):
    return kept(of_thread, n)


def reached(n):
    """Another thread reaches for what is a request's, where the request said that it is, while that waits."""
    place, done = own.where(), threading.Event()
    own.set(0)

    def write():
        time.sleep(0.01)
        place.contents.value = n + 1
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    meeting.wait(60)
    places.add(ctypes.addressof(place.contents))
    done.wait(60)
    thread.join()
    meeting.wait(60)
    return [own.get() == n + 1, len(places) >= 4, ctypes.addressof(own.where().contents) in places]


# What an extension keeps for a thread by CPython's own means, as pyproj does, together with a threading.local.
tss = ctypes.create_string_buffer(16)
api = ctypes.pythonapi
api.PyThread_tss_create(tss)
api.PyThread_tss_get.restype, api.PyThread_tss_set.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_void_p)
local = threading.local()


def paired(n):
    """Where one of the two is gone, the other is."""
    both = hasattr(local, "n"), api.PyThread_tss_get(tss) is not None
    local.n = n
    api.PyThread_tss_set(tss, n + 1)
    time.sleep(0.01)
    return [both[0] == both[1], local.n + 1 == api.PyThread_tss_get(tss)]


def app(environ, start_response):
    name, _, n = environ["PATH_INFO"][1:].partition("/")
    body = json.dumps(globals()[name](int(n))).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
