"""Lets processes that `multiprocessing` forks in a request end as they should.

In the child the thread that forked becomes `threading.main_thread()`. Where that is a thread that wasn't started by
`threading`, as all are that answer requests, it has no `_tstate_lock` up to CPython 3.12, which `threading._shutdown()`
asserts: the child would end with status 1.
"""

import _thread
import os
import threading


def give_main_thread_a_lock():
    main = threading.main_thread()
    if getattr(main, "_tstate_lock", main) is None:
        main._tstate_lock = _thread.allocate_lock()
        main._tstate_lock.acquire()


# Called after threading's own, which was registered when it was imported.
os.register_at_fork(after_in_child=give_main_thread_a_lock)
