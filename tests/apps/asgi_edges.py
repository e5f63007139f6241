"""An ASGI application that goes to the edges of the protocol: what a server refuses, and what it must leave alone."""

import asyncio
import json
import os
import signal

# By whoever asks for it while this is imported; the one that runs.
loop_at_import = asyncio.get_event_loop()
seen = []
pool = {"open": False}


async def answer(send, text, status=200, headers=()):
    fields = [(b"content-length", str(len(text)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": text.encode()})


async def show_seen(scope, receive, send):
    await answer(send, json.dumps(seen))


async def facts(scope, receive, send):
    coroutine = asyncio.current_task().get_coro()
    found = {
        "same_loop": asyncio.get_running_loop() is loop_at_import,
        "name": coroutine.__name__,
        "qualname": coroutine.__qualname__,
        "shown": repr(asyncio.current_task()),
    }
    await answer(send, json.dumps(found))


BAD_START = [(b"x-first", b"kept?"), (b"set-cookie", b"session=secret"), (b"content-length", b"5"), (b"bad header", b"v")]


async def refused(scope, receive, send):
    """As error middleware does it: a start that is refused, something that is awaited, an answer of its own."""
    try:
        await send({"type": "http.response.start", "status": 200, "headers": BAD_START})
    except RuntimeError as error:
        seen.append(f"refused: {error}")
        await asyncio.sleep(0.1)
        await answer(send, "error!", status=500)


async def refused_for_good(scope, receive, send):
    try:
        await send({"type": "http.response.start", "status": 200, "headers": BAD_START})
    except RuntimeError:
        await asyncio.sleep(0.1)
    await send({"type": "http.response.body", "body": b"hello"})


async def own_fields(scope, receive, send):
    await answer(send, "mine", headers=[(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT"), (b"server", b"mine")])


async def upgrade_required(scope, receive, send):
    await answer(send, "", status=426, headers=[(b"upgrade", b"h2c"), (b"connection", b"Upgrade")])


async def trailers(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
    await send({"type": "http.response.body", "body": b"body"})
    for name in (b"transfer-encoding", b"Content-Length", b"trailer", b"x-sum"):
        try:
            await send({"type": "http.response.trailers", "headers": [(name, b"4")]})
        except RuntimeError as error:
            seen.append(str(error))


async def receive_late(scope, receive, send):
    await answer(send, "early")
    seen.append("then " + (await receive())["type"])


async def late_work(scope, receive, send):
    """Its client has left when it answers; then it goes on for longer than it would be let without one."""
    try:
        seen.append("late work")
        await asyncio.sleep(0.5)
        await answer(send, "answered")
        await asyncio.sleep(2.5)
        seen.append("late work done")
    except BaseException as error:
        seen.append(f"late work {error!r}")
        raise


async def short(scope, receive, send):
    print("request: is here", flush=True)
    await asyncio.sleep(1)
    await answer(send, "answered")


async def hold(scope, receive, send):
    print("request: holds", flush=True)
    try:
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(0.05)
        print("request: cleaned up, pool", "open" if pool["open"] else "closed", flush=True)


ROUTES = {
    "/facts": facts,
    "/hold": hold,
    "/late-work": late_work,
    "/own-fields": own_fields,
    "/receive-late": receive_late,
    "/refused": refused,
    "/refused-for-good": refused_for_good,
    "/seen": show_seen,
    "/short": short,
    "/trailers": trailers,
    "/upgrade-required": upgrade_required,
}


async def socket(scope, receive, send):
    await receive()
    if scope["path"] == "/refused-accept":
        first, then = {"type": "websocket.accept", "headers": BAD_START}, {"type": "websocket.close"}
    else:
        first = {"type": "websocket.http.response.start", "status": 200, "headers": BAD_START}
        then = {"type": "websocket.http.response.start", "status": 418, "headers": []}
    try:
        await send(first)
    except RuntimeError:
        await asyncio.sleep(0.1)
        await send(then)
        if then["type"] != "websocket.close":
            await send({"type": "websocket.http.response.body", "body": b"no"})


async def lifespan(scope, receive, send):
    if os.environ.get("LIFESPAN") == "unknown":
        raise NotImplementedError("no lifespan here")
    await receive()
    if os.environ.get("LIFESPAN") == "raise":
        raise ValueError("raised at start-up")
    pool["open"] = True
    loop, handlers = asyncio.get_running_loop(), os.environ.get("HANDLERS")
    if handlers in ("loop", "removed"):
        loop.add_signal_handler(signal.SIGTERM, lambda: print("handler: called", flush=True))
    if handlers == "removed":
        loop.remove_signal_handler(signal.SIGTERM)
    if handlers == "signal":
        signal.signal(signal.SIGTERM, lambda *_: print("handler: called", flush=True))
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("lifespan: closes the pool", flush=True)
    pool["open"] = False
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["type"] == "http":
        await ROUTES[scope["path"]](scope, receive, send)
    else:
        await socket(scope, receive, send)
