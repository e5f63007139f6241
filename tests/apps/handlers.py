"""Sets handlers of signals as libraries do, one way a module of this kind: `HANDLERS` says which. Answers as promises.raw."""

import faulthandler
import multiprocessing
import os
import signal
import time

from promises import raw  # noqa: F401

kind = os.environ.get("HANDLERS", "")
ours = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGWINCH)}


def note(text):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{text}\n")


def chained(number, frame):
    """As queues and error trackers do."""
    note("handled")
    ours[number](number, frame)


def replaced(number, frame):
    """Nobody else is told."""
    note("handled")


def sent_again(number, frame):
    """As coverage does."""
    note("handled")
    signal.signal(number, ours[number])
    os.kill(os.getpid(), number)


def passed_on(number, frame):
    """As tracers do: what isn't Python's is taken for the system's."""
    note("handled")
    if callable(ours[number]):
        ours[number](number, frame)
    else:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def wait(begun):
    begun.send(None)
    for _ in range(1200):
        # Python runs handlers between two of its instructions, and gevent may just have begun to wait.
        time.sleep(0.05)


def child():
    """How a process ends that is sent SIGTERM."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(False)
    process = context.Process(target=wait, args=(send,))
    process.start()
    receive.recv()
    process.terminate()
    process.join(20)
    return process.exitcode


if kind in globals():
    for number in ours:
        signal.signal(number, globals()[kind])
elif kind == "restored":
    for number in ours:
        before = signal.signal(number, lambda *_: None)
        signal.signal(number, before)
        assert before is ours[number] and signal.getsignal(number) is before
    note("handled")
elif kind == "default":
    for number in ours:
        signal.signal(number, signal.SIG_DFL)
    note("handled")
elif kind == "ignored":
    for number in ours:
        signal.signal(number, signal.SIG_IGN)
    note("handled")
elif kind == "native":
    for number in ours:
        faulthandler.register(number, open(os.environ["NOTES"], "a"))
    note("handled")
elif kind == "blocked":
    signal.pthread_sigmask(signal.SIG_BLOCK, ours)
    note("handled")
elif kind == "shown":
    note([callable(handler) for handler in ours.values()] + [callable(signal.getsignal(signal.SIGABRT))])
    note([signal.getsignal(n) == signal.SIG_DFL for n in (signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD)])
elif kind == "called":
    # That is what it is for.
    ours[signal.SIGTERM](signal.SIGTERM, None)
elif kind == "inherited":
    note(child())
    worker = os.getpid()
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(7) if os.getpid() != worker else None)
    note(child())
    signal.signal(signal.SIGTERM, ours[signal.SIGTERM])
    note(child())
