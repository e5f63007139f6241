"""Threads of an application that gevent has patched and the main process has loaded. Executed by mod.rs.

The main process waits outside of Python, where no hub runs; so what an application starts while it is imported, to run once
and not in each worker, would run in no main process, but in each worker, which inherits the greenlet. Here each of these
is a thread of the system's, as with every other class, that has a hub of its own: what is patched waits there.
"""

import _thread
import os
import queue
import threading

import gevent
import gevent.thread
from gevent.event import Event
from gevent.monkey import get_original

begin, lock, identity = get_original("_thread", ["start_new_thread", "allocate_lock", "get_ident"])


def install():
    main, first = os.getpid(), identity()
    for name in ("start_new_thread", "start_joinable_thread"):
        for module, prefix in ((_thread, ""), (threading, "_")):
            if hasattr(module, prefix + name):
                setattr(module, prefix + name, starter(getattr(gevent.thread, name), main, first))
    # gevent's own can't be shared by threads, and executors wait for theirs; this one is made of locks, which can.
    queue.SimpleQueue = queue._PySimpleQueue
    watcher = occupied()
    os.register_at_fork(after_in_child=watcher.stop)


def occupied():
    """Keeps this thread's hub from finding that there is nothing to wait for: another thread may have something."""
    watcher = gevent.get_hub().loop.async_()
    watcher.start(lambda: None)
    return watcher


def starter(start, main, first):
    """`start` makes a greenlet, in the thread that calls it."""

    def start_thread(function, *arguments, **options):
        if os.getpid() != main or identity() != first:
            return start(function, *arguments, **options)
        results, started = [], lock()
        started.acquire()

        def run():
            watcher, done = occupied(), Event()

            def work(*arguments, **options):
                try:
                    return function(*arguments, **options)
                finally:
                    done.set()

            try:
                results.append(start(work, *arguments, **options))
            except BaseException as error:
                results.append(error)
                done.set()
            finally:
                started.release()
            done.wait()
            watcher.stop()
            hub = gevent.get_hub()
            # What is left to do at the end of a greenlet, and other greenlets that this one has started.
            hub.join()
            hub.destroy(destroy_loop=True)

        begin(run, ())
        started.acquire()
        if isinstance(results[0], BaseException):
            raise results[0]
        return results[0]

    return start_thread
