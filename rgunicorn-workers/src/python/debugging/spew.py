"""Prints each line before it is executed, with the variables that it names. Executed by spew.rs."""

import linecache
import re
import sys
import threading

WORD = re.compile(r"\w+")


def install():
    """Traces this thread, unless something traces it already, and those to come."""
    if sys.gettrace() is None:
        sys.settrace(trace)
        threading.settrace(trace)


def trace(frame, event, argument):
    if event == "line":
        spaces = frame.f_globals, frame.f_locals
        number, file = frame.f_lineno, frame.f_code.co_filename
        line = linecache.getline(file, number, frame.f_globals).rstrip()
        text = f"{frame.f_globals.get('__name__', '[unknown]')}:{number}: {line or 'unknown code'}"
        values = [f"{word}={shown(space[word])}" for word in WORD.findall(line) for space in spaces if word in space]
        # One write, so that lines of several threads don't mix.
        sys.stdout.write(f"{text}\n\t{' '.join(values)}\n" if values else f"{text}\n")
        sys.stdout.flush()
    return trace


def shown(value):
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
