"""Worker classes of a test's own, and applications for them."""

import os
import select
import time

from gunicorn.workers.base import Worker


class Plain(Worker):
    """Answers one request a connection."""

    def run(self):
        while self.alive:
            self.notify()
            ready, _, _ = select.select(self.wait_fds, [], [], 0.2)
            for sock in self.sockets:
                if sock in ready:
                    try:
                        client, address = sock.accept()
                    except BlockingIOError:
                        continue
                    with client:
                        client.setblocking(True)
                        self.answer(client, address)

    def answer(self, client, address):
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(65536)
        started = []
        environ = {
            "REQUEST_METHOD": "GET", "RAW_URI": head.split()[1].decode(), "SERVER_PROTOCOL": "HTTP/1.1",
            "PATH_INFO": head.split()[1].decode(), "worker": self,
        }  # fmt: skip
        body = b"".join(self.wsgi(environ, lambda status, headers: started.append(status)))
        text = f"HTTP/1.1 {started[0]}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        client.sendall(text.encode() + body)
        self.nr += 1
        if self.nr >= self.max_requests:
            self.alive = False


class Prepared(Plain):
    prepared = []

    @classmethod
    def setup(cls):
        cls.prepared.append("setup")

    @classmethod
    def check_config(cls, cfg, log):
        cls.prepared.append(f"check_config {cfg.workers}")

    def init_process(self):
        self.prepared.append("init_process")
        super().init_process()

    def handle_exit(self, sig, frame):
        self.log.info("It was told to stop: %s", self.prepared)
        super().handle_exit(sig, frame)


class Silent(Plain):
    """Gives no sign of life."""

    def notify(self):
        pass


class Whole:
    """A worker class that derives from nothing."""

    def __init__(self, age, ppid, sockets, app, timeout, cfg, log):
        self.sockets, self.app, self.log, self.alive = sockets, app, log, True

    def init_process(self):
        self.wsgi = self.app.wsgi()
        self.run()

    def notify(self):
        pass

    def run(self):
        self.notify()
        self.log.warning("Serving %s", self.wsgi.__name__)
        time.sleep(100)


class NoRun(Worker):
    pass


class Nothing:
    pass


number = 7


def app(environ, start_response):
    start_response("200 OK", [])
    worker = environ["worker"]
    path = environ["PATH_INFO"]
    if path == "/hang":
        time.sleep(100)
    if path == "/spin":
        print("it spins", flush=True)
        while True:
            pass
    if path == "/slow":
        time.sleep(1)
    if path == "/settings":
        cfg = worker.cfg
        return [repr((cfg.bind, cfg.workers, cfg.timeout, worker.timeout, cfg.env, cfg.proc_name, cfg.accesslog)).encode()]
    if path == "/gunicorn":
        import gunicorn

        return [gunicorn.__file__.encode()]
    return [str(os.getpid()).encode()]


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"asgi {scope['path']}".encode()})


async def no_start(scope, receive, send):
    """Fails where a server would start."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


def aio():
    from aiohttp import web

    async def hello(request):
        return web.Response(text=f"aiohttp {request.path}")

    site = web.Application()
    site.router.add_get("/hello", hello)
    return site
