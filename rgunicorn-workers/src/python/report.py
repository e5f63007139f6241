"""Writes what the Python code of this process is doing, when the arbiter asks for it.

The handler runs in the main thread, between two instructions or in a system call that was interrupted. It imports nothing and
takes no lock that the interrupted code may hold.
"""

import gc
import itertools
import os
import sys
import threading
# Not signal, whose file a worker may not be allowed to read once it runs as another user.
from _signal import signal

END = b"\x04"
#: How many of those in the same place are named.
NAMED = 5
#: In how many functions a request is looked for.
OUTERMOST = 4


def install(number, descriptor):
    """Has signal `number` write a report to `descriptor`."""

    def handle(_number, frame):
        try:
            put(descriptor, report(frame))
        except BaseException as error:  # Whatever it is, it is not the interrupted code's.
            put(descriptor, f"The report broke off: {error!r}\n")
        finally:
            os.write(descriptor, END)

    signal(number, handle)


def put(descriptor, text):
    data = text.encode("utf-8", "backslashreplace")
    while data:
        data = data[os.write(descriptor, data) :]


def report(interrupted):
    return "\n".join([*threads(interrupted), *tasks(), *greenlets()])


def threads(interrupted):
    """Threads, and the coroutines of the class `coro`, which pass for threads. Those in the same place are told together:
    there may be thousands."""
    # Without threading's lock, and without its idea of who we are, which a monkey-patched one has not.
    names = {ident: thread.name for ident, thread in list(threading._active.items())}
    here, places = sys._getframe(), {}
    for ident, frame in sys._current_frames().items():
        if frame is here:
            frame = interrupted
        who = request(frame) or f"Thread {names.get(ident, hex(ident))}"
        # The lines of the source are read when all are known: others may go on meanwhile.
        lines = walk(frame)
        places.setdefault(tuple(one[:2] for one in lines), []).append((who, lines))
    for found in sorted(places.values(), key=len, reverse=True):
        who = ", ".join(who for who, _ in found[:NAMED])
        if len(found) > 1:
            who = f"{len(found)} in the same place: {who}"
        if len(found) > NAMED:
            who += f" and {len(found) - NAMED} more"
        yield f"{who} (most recent call last):\n{stack(found[0][1])}"


def walk(frame):
    """Where each function of a stack is, the innermost first."""
    lines = []
    while frame is not None:
        lines.append((frame.f_code, frame.f_lineno or 0, frame.f_globals))
        frame = frame.f_back
    return lines


def request(frame):
    """The request that a stack answers, as far as the variables of its outermost functions tell."""
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    for frame in frames[: -OUTERMOST - 1 : -1]:
        for value in list(frame.f_locals.values()):
            if type(value) is dict and "REQUEST_METHOD" in value and "PATH_INFO" in value:
                return f"{value['REQUEST_METHOD']} {value.get('SCRIPT_NAME', '')}{value['PATH_INFO']}"
    return None


def place(ident):
    """Where a thread or a coroutine is: the innermost place, and all of it as text."""
    frame = sys._current_frames().get(ident)
    if frame is None:
        return None
    lines, asked = walk(frame), request(frame)
    (code, number, _), text = lines[0], stack(lines).rstrip()
    return f"{code.co_filename}:{number}", f"{asked}\n{text}" if asked else text


def stack(lines):
    return "".join(line(*one) for one in reversed(lines))


def line(code, number, names):
    text = source(code.co_filename, number, names).strip()
    return f'  File "{code.co_filename}", line {number}, in {code.co_qualname}\n' + (f"    {text}\n" if text else "")


def source(file, number, names):
    """A line of a file's text. Applications have linecache, as a rule; those that haven't are spared its memory."""
    linecache = sys.modules.get("linecache")
    if hasattr(linecache, "getline"):
        return linecache.getline(file, number, names)
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            return next(itertools.islice(lines, number - 1, None), "")
    except OSError:
        return ""


def tasks():
    """The tasks of the event loop that runs in this thread."""
    asyncio = sys.modules.get("asyncio")
    loop = asyncio and asyncio._get_running_loop()
    if loop is None:
        return
    current = asyncio.current_task(loop)
    for task in asyncio.all_tasks(loop):
        state = "running" if task is current else "waiting"
        yield f"Task {task.get_name()} ({state}, most recent call last):\n{''.join(awaits(task.get_coro()))}"


def awaits(coroutine):
    """The frames of a coroutine, and of what it waits for."""
    for _ in range(100):
        if coroutine is None:
            return
        for prefix in ("cr", "gi", "ag"):
            frame = getattr(coroutine, f"{prefix}_frame", None)
            if frame is not None:
                yield line(frame.f_code, frame.f_lineno or 0, frame.f_globals)
                break
        waits = (getattr(coroutine, name, None) for name in ("cr_await", "gi_yieldfrom", "ag_await"))
        coroutine = next((found for found in waits if found is not None), None)


def greenlets():
    """The greenlets of gevent and eventlet that wait."""
    module = sys.modules.get("greenlet")
    if module is None:
        return
    # By their types: to ask an object for its class may call code of the application's.
    for found in [thing for thing in gc.get_objects() if issubclass(type(thing), module.greenlet)]:
        frame = found.gr_frame
        if frame is not None and found is not module.getcurrent():
            yield f"Greenlet {hex(id(found))} (waiting, most recent call last):\n{stack(walk(frame))}"
