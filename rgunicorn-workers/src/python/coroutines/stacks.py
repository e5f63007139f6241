"""Where all threads and coroutines are."""

import os
import sys
import threading
import traceback


def request(frame):
    """The request that a stack answers, as far as it can be told from the outermost function's variables."""
    outermost = frame
    while outermost.f_back is not None:
        outermost = outermost.f_back
    for value in list(outermost.f_locals.values()):
        if isinstance(value, dict) and "REQUEST_METHOD" in value and "PATH_INFO" in value:
            return f"{value['REQUEST_METHOD']} {value.get('SCRIPT_NAME', '')}{value['PATH_INFO']}"
    return None


def name(identity, frame, mine):
    # Without the lock of threading.enumerate(): whoever holds it may be one of those that are asked about.
    thread = threading._active.get(identity)
    parts = ["this thread" if identity == mine else ""]
    parts.append(request(frame) or (thread.name if thread is not None else f"0x{identity:x}"))
    return ", ".join(filter(None, parts))


def text():
    mine, stacks = threading.get_ident(), {}
    for identity, frame in sys._current_frames().items():
        # The lines of the source are read afterwards, when all stacks are known.
        places = tuple((f.f_code, number) for f, number in traceback.walk_stack(frame))
        stacks.setdefault(places, []).append((name(identity, frame, mine), frame))
    del frame
    blocks = []
    for found in sorted(stacks.values(), key=len, reverse=True):
        names = [name for name, _ in found]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        count = f"{len(names)} in the same place: " if len(names) > 1 else ""
        blocks.append(f"{count}{shown} (most recent call last):\n" + "".join(traceback.format_stack(found[0][1])))
    return "\n".join(blocks)


def write(descriptor):
    rest = text().encode("utf-8", "backslashreplace")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def place(identity):
    frame = sys._current_frames().get(identity)
    if frame is None:
        return None
    where, asked = f"{frame.f_code.co_filename}:{frame.f_lineno}", request(frame)
    stack = "".join(traceback.format_stack(frame)).rstrip()
    return where, (f"{asked}\n{stack}" if asked else stack)
