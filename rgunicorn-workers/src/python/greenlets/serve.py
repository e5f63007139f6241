"""The hubs of gevent and eventlet around the engine. Executed by mod.rs."""


class Problem(Exception):
    """Something that a sentence explains better than a traceback."""


def patch(library):
    """Makes the standard library cooperative, before the application is imported."""
    try:
        if library == "gevent":
            from gevent import hub, monkey

            monkey.patch_all()
            # With --preload it is the main process's, copied.
            hub.reinit()
            # What the hub needs is imported now: with --preload a worker's user may not be allowed to read it.
            import gevent.event
            from gevent._config import config

            for name in ("loop", "threadpool", "resolver", "format_context"):
                getattr(config, name)
        else:
            import eventlet

            eventlet.monkey_patch()
    except ImportError as error:
        raise Problem(
            f"worker_class {library} needs a library that can't be imported ({error}): pip install {library};"
            " class coro does much the same and needs none"
        ) from None


def serve(library, server):
    """Serves until the server says that it is done."""
    hub = (Gevent if library == "gevent" else Eventlet)()
    turning = False
    soon = False
    waiting = {}

    def turn():
        nonlocal turning, soon
        if server.is_stray():
            return
        turning, soon = True, False
        try:
            for number in range(server.begin()):
                exchange = server.next()
                if exchange is None:
                    break
                greenlet = waiting.pop(exchange.name, None)
                if greenlet is None:
                    hub.spawn(handle, exchange)
                else:
                    greenlet(exchange)
            server.heed()
            if server.is_done():
                hub.stop()
        finally:
            turning = False
            at_once, alarm = server.end()
        if at_once:
            turn_soon()
        if alarm is not None:
            hub.later(alarm, ring)

    def turn_soon():
        nonlocal soon
        if not soon:
            soon = True
            hub.soon(turn)

    def ring():
        if not server.is_stray():
            server.ring()
            turn()

    def handle(exchange):
        """Answers a request, in a greenlet of its own from its beginning to the end of its response."""
        while exchange is not None:
            resume, wait = hub.meeting()
            # It may come again at any moment once it was given back.
            waiting[exchange.name] = resume
            name = exchange.name
            if exchange.advance():
                waiting.pop(name, None)
                wait = None
            if server.give_back(exchange) and not turning:
                turn_soon()
            exchange = wait() if wait is not None else None

    def pulse():
        while not server.is_stray():
            server.beat()
            hub.sleep(server.beat_interval)

    hub.watch(server.descriptor, turn)
    hub.spawn(pulse)
    # What came before we were there has made no event.
    turn_soon()
    hub.wait()


class Gevent:
    def __init__(self):
        import gevent
        from gevent.event import AsyncResult, Event

        self.gevent, self.result = gevent, AsyncResult
        self.loop = gevent.get_hub().loop
        self.stopped = Event()
        self.sleep = gevent.sleep
        self.timers = set()

    def spawn(self, function, *arguments):
        self.gevent.spawn(function, *arguments)

    def watch(self, descriptor, callback):
        self.watcher = self.loop.io(descriptor, 1)
        self.watcher.start(callback)

    def soon(self, callback):
        self.loop.run_callback(callback)

    def later(self, seconds, callback):
        timer = self.loop.timer(seconds)
        self.timers.add(timer)

        def run():
            self.timers.discard(timer)
            timer.close()
            callback()

        timer.start(run)

    def meeting(self):
        result = self.result()
        return result.set, result.get

    def stop(self):
        self.stopped.set()

    def wait(self):
        self.stopped.wait()
        self.watcher.stop()


class Eventlet:
    def __init__(self):
        import eventlet
        from eventlet.event import Event
        from eventlet.hubs import get_hub

        self.eventlet, self.event, self.hub = eventlet, Event, get_hub()
        self.stopped = Event()
        self.sleep = eventlet.sleep

    def spawn(self, function, *arguments):
        self.eventlet.spawn_n(function, *arguments)

    def watch(self, descriptor, callback):
        self.watcher = self.hub.add(self.hub.READ, descriptor, lambda _: callback(), callback, lambda: None)

    def soon(self, callback):
        self.hub.schedule_call_global(0, callback)

    def later(self, seconds, callback):
        self.hub.schedule_call_global(seconds, callback)

    def meeting(self):
        event = self.event()
        return event.send, event.wait

    def stop(self):
        if not self.stopped.ready():
            self.stopped.send()

    def wait(self):
        self.stopped.wait()
        self.hub.remove(self.watcher)
