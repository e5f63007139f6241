"""The life of an ASGI worker's event loop, and the lifespan protocol. Executed by boot.rs, which adds what it doesn't import.

`info(text)` and `error(text)` write to the error log.
"""

import asyncio
import functools
import inspect
import sys
import traceback


# How long requests may take to end once they were cancelled, in seconds.
CLEAN_UP = 1


class Problem(Exception):
    """Something that a sentence explains better than a traceback."""


def prepare():
    """Imports what else is imported only when it is needed."""
    import concurrent.futures.thread  # noqa: F401
    import contextvars  # noqa: F401
    import http  # noqa: F401

    try:
        import uvloop  # noqa: F401
    except ImportError:
        pass


def make_runner(choice):
    """An event loop of this kind that isn't running yet: `auto` is uvloop where it is installed."""
    factory = asyncio.new_event_loop
    if choice != "asyncio":
        try:
            import uvloop
        except ImportError:
            if choice == "uvloop":
                raise Problem("asgi_loop is uvloop, which is not installed: pip install uvloop") from None
        else:
            factory = uvloop.new_event_loop
    runner = asyncio.Runner(loop_factory=factory)
    # What an application makes while it is imported belongs to the loop that will run.
    asyncio.set_event_loop(runner.get_loop())
    return runner


def settle(runner, choice):
    """The event loop again, whatever the application has done to it while it was imported."""
    if runner.get_loop().is_closed():
        return make_runner(choice)
    asyncio.set_event_loop(runner.get_loop())
    return runner


def adapt(application):
    """The application as ASGI 3 has it; one of ASGI 2 is called twice (`application(scope)(receive, send)`)."""
    if inspect.isclass(application):
        # A class is ASGI 3 if awaiting an instance runs it, and ASGI 2 if calling one does.
        return application if hasattr(application, "__await__") else twice(application)
    call = application if inspect.isroutine(application) else getattr(type(application), "__call__", None)
    if inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(call):
        return application
    if takes(application, 3):
        return application
    if takes(application, 1):
        return twice(application)
    if takes(application, 2):
        raise Problem(
            f"{application!r} takes two arguments, as a WSGI application does; class asgi needs an ASGI application, and"
            " WSGI applications run with another class, such as sync or threads"
        )
    return application


def takes(application, count):
    try:
        inspect.signature(application).bind(*range(count))
    except TypeError:
        return False
    except ValueError:
        # It has no signature that could be looked at.
        return count == 3
    return True


def twice(application):
    @functools.wraps(application, updated=())
    async def asgi3(scope, receive, send):
        await application(scope)(receive, send)

    return asgi3


def boot(runner, application, mode, state, beat, interval):
    """Runs the application's start-up: the lifespan, to be ended by `end`."""
    lifespan = Lifespan(application, mode, state)
    if mode != "off":
        runner.run(beating(lifespan.start(), beat, interval))
    return lifespan


async def beating(work, beat, interval):
    """Gives signs of life while something takes its time."""
    heart = asyncio.ensure_future(pulse(beat, interval))
    try:
        return await work
    finally:
        heart.cancel()


async def pulse(beat, interval):
    while True:
        beat()
        await asyncio.sleep(interval)


class Lifespan:
    """The application's start-up and shutdown (the lifespan protocol of ASGI)."""

    def __init__(self, application, mode, state):
        self.application = application
        self.mode = mode
        self.state = state
        self.messages = asyncio.Queue()
        self.started = None
        self.stopped = None
        self.task = None
        self.failure = None
        self.known = False
        self.supported = mode != "off"

    async def start(self):
        loop = asyncio.get_running_loop()
        self.started, self.stopped = loop.create_future(), loop.create_future()
        self.task = loop.create_task(self.run(), name="lifespan")
        self.messages.put_nowait({"type": "lifespan.startup"})
        await self.started
        if self.failure is not None:
            raise Problem(self.failure)

    async def run(self):
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self.application(scope, self.receive, self.send)
        except BaseException as exception:
            self.ended(exception)
            if isinstance(exception, asyncio.CancelledError):
                raise
        else:
            self.ended(None)

    def ended(self, exception):
        """The application's part is over: as it should be, or too early."""
        if not self.started.done():
            self.supported = False
            if self.mode == "on" or isinstance(exception, SystemExit):
                what = shown(exception) if exception is not None else "the application returned"
                self.failure = f"the application's start-up (lifespan) failed: {what}"
            elif exception is not None and self.known:
                error(f"The application's start-up (lifespan) failed; it is served all the same (asgi_lifespan = auto)\n{shown(exception)}")
            else:
                info("The application doesn't know the lifespan protocol" + (f": {exception!r}" if exception else ""))
            self.started.set_result(None)
        elif exception is not None and not isinstance(exception, asyncio.CancelledError) and self.failure is None:
            error(f"The application's lifespan failed\n{shown(exception)}")
        if not self.stopped.done():
            self.stopped.set_result(None)

    async def receive(self):
        # Who asks for the start-up message has seen what kind of scope it was.
        self.known = True
        return await self.messages.get()

    async def send(self, message):
        kind = message["type"]
        if kind == "lifespan.startup.complete" and not self.started.done():
            self.started.set_result(None)
        elif kind == "lifespan.startup.failed" and not self.started.done():
            said = message.get("message") or "it gave no reason"
            self.failure = f"the application's start-up (lifespan) failed: {said}"
            self.started.set_result(None)
        elif kind == "lifespan.shutdown.complete" and self.started.done() and not self.stopped.done():
            self.stopped.set_result(None)
        elif kind == "lifespan.shutdown.failed" and self.started.done() and not self.stopped.done():
            self.failure = message.get("message") or "it gave no reason"
            error(f"The application's shutdown (lifespan) failed: {self.failure}")
            self.stopped.set_result(None)
        else:
            raise RuntimeError(f"unexpected message {kind!r} of the lifespan protocol")

    async def stop(self):
        if not self.supported or self.stopped.done():
            return
        self.messages.put_nowait({"type": "lifespan.shutdown"})
        await self.stopped


def serve(runner, server):
    """Serves until the server says that it is done."""
    runner.run(serving(server))


async def serving(server):
    loop = asyncio.get_running_loop()
    stopped = loop.create_future()
    make_task, arguments, by_hand = asyncio.Task, {"loop": loop}, False
    if loop.get_task_factory() is not None:
        make_task, arguments = loop.create_task, {}
    elif sys.version_info >= (3, 12):
        arguments["eager_start"] = True
    else:
        by_hand = True
    server.enter(loop, stopped, make_task, arguments, by_hand, wait)
    heart = loop.create_task(pulse(server.beat, server.beat_interval))
    descriptor = server.descriptor
    loop.add_reader(descriptor, server.turn)
    # What came before we were there has made no event.
    loop.call_soon(server.turn)
    try:
        await stopped
        await cancelled(server.unfinished())
    finally:
        loop.remove_reader(descriptor)
        heart.cancel()


async def cancelled(tasks):
    """Ends what has had its time, and lets it clean up while what it uses is still there."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CLEAN_UP)


async def wait(future):
    return await future


def end(runner, lifespan, beat, interval):
    """Runs the application's shutdown, and ends what is left of its tasks."""
    try:
        runner.run(beating(lifespan.stop(), beat, interval))
    except Exception as exception:
        error(f"The application's shutdown (lifespan) failed\n{shown(exception)}")
    runner.close()


def shown(exception):
    """The traceback, without our own part of it."""
    frames = exception.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == "<rgunicorn>":
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(exception), exception, frames)).rstrip()
