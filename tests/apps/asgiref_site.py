"""What asgiref gives asynchronous applications, Django's among them: threads for blocking code, and the way back from there."""

import asyncio
import contextvars
import json
import threading
import time

from asgiref.local import Local
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from asgiref.wsgi import WsgiToAsgi

local = Local()
variable = contextvars.ContextVar("variable", default="unset")
running = most = 0


def block(seconds=0.1):
    """Which thread it ran in, and how many others ran it meanwhile."""
    global running, most
    running += 1
    most = max(most, running)
    time.sleep(seconds)
    running -= 1
    return threading.get_ident()


async def sensitive(scope):
    """Without a context of their own, all requests' blocking code runs in one thread, one after the other."""
    return await sync_to_async(block)()


async def context(scope):
    """As Django does it: one thread a request, and the same for all that it calls."""
    async with ThreadSensitiveContext():
        first, second = await sync_to_async(block)(), await sync_to_async(block)(0)
    return [first, second]


async def pool(scope):
    return await sync_to_async(block, thread_sensitive=False)()


async def concurrency(scope):
    global most
    before, most = most, 0
    return before


async def nested(scope):
    """In and out again: the innermost coroutine runs in the loop that serves, the innermost function in the same thread."""
    loop, thread = asyncio.get_running_loop(), threading.get_ident()

    def innermost():
        return threading.get_ident()

    async def inner():
        return asyncio.get_running_loop() is loop, threading.get_ident() == thread, await sync_to_async(innermost)()

    def outer():
        return [threading.get_ident() != thread, *async_to_sync(inner)(), threading.get_ident()]

    elsewhere, same_loop, same_thread, deep, shallow = await sync_to_async(outer)()
    return [elsewhere, same_loop, same_thread, deep == shallow]


async def variables(scope):
    """What is set in a thread is seen here; nothing is left of other requests."""
    before = [variable.get(), getattr(local, "value", None)]

    def change():
        variable.set("changed")
        local.value = "changed, too"

    await sync_to_async(change)()
    return [*before, variable.get(), local.value]


async def sub_request(scope):
    """asgiref's way to call an ASGI application, as tests do: here within one that is served."""
    communicator = ApplicationCommunicator(app, {**scope, "path": "/nested"})
    await communicator.send_input({"type": "http.request", "body": b""})
    start = await communicator.receive_output(5)
    body = await communicator.receive_output(5)
    await communicator.wait(5)
    return [start["status"], json.loads(body["body"])]


async def failing(scope):
    def fail():
        raise ValueError("failed in a thread")

    await sync_to_async(fail)()


def wsgi(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Length", str(len(body)))])
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


wrapped = WsgiToAsgi(wsgi)


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError(f"no {scope['type']} here")
    path = scope["path"].strip("/")
    if path == "wsgi":
        return await wrapped(scope, receive, send)
    answer = json.dumps(await globals()[path.replace("-", "_")](scope)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": answer})
