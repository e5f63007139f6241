"""The ASGI application of the end-to-end tests: a small answer for each promise that a server makes."""

import asyncio
import contextvars
import json
import os
import sys

seen = []
state_at_start = None
variable = contextvars.ContextVar("variable", default="unset")


async def answer(send, body, status=200, headers=()):
    body = body.encode() if isinstance(body, str) else body
    fields = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def body_of(receive):
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RuntimeError("the client is gone")
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def plain(value):
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


async def hello(scope, receive, send):
    await answer(send, "hello\n")


async def show_scope(scope, receive, send):
    await answer(send, json.dumps(plain(scope), sort_keys=True))


async def echo(scope, receive, send):
    await answer(send, await body_of(receive))


async def digest(scope, receive, send):
    """Reads the body as it comes: how many messages, how many bytes."""
    count, total, more = 0, 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            seen.append("broken off")
            return
        count, total, more = count + 1, total + len(message["body"]), message["more_body"]
        seen.append(f"had {total}")
    await answer(send, f"{count > 1} {total}")


async def stream(scope, receive, send):
    """Pieces, each behind a pause; without a length."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(3):
        await asyncio.sleep(0.02)
        await send({"type": "http.response.body", "body": b"%d," % number, "more_body": True})
    await send({"type": "http.response.body"})


async def head_first(scope, receive, send):
    """A head, and a body once the test says so."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-early", b"yes")]})
    while not os.path.exists(scope["query_string"].decode()):
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"at last"})


async def flood(scope, receive, send):
    """64 MiB, counted as they are taken."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(1024):
        await send({"type": "http.response.body", "body": b"f" * 65536, "more_body": True})
        seen.append(number)
    await send({"type": "http.response.body"})


async def show_seen(scope, receive, send):
    await answer(send, json.dumps(seen[-50:]))


async def linger(scope, receive, send):
    """Waits for its client to leave, and says so."""
    await body_of(receive)
    seen.append((await receive())["type"])
    await answer(send, "nobody reads this")
    seen.append("sent")


async def forget(scope, receive, send):
    """Takes no notice of its client, until it is cancelled."""
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise


async def sleep(scope, receive, send):
    await asyncio.sleep(float(scope["query_string"] or b"0.5"))
    await answer(send, "slept\n")


async def fail_early(scope, receive, send):
    raise ValueError("failed before the response")


async def fail_started(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ValueError("failed before the body")


async def fail_late(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"some", "more_body": True})
    raise ValueError("failed in the middle")


async def silent(scope, receive, send):
    pass


async def unfinished(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})


async def injected(scope, receive, send):
    await answer(send, "never", headers=[(b"x-evil", b"a\r\nset-cookie: b=c")])


async def no_content(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def not_modified(scope, receive, send):
    await send({"type": "http.response.start", "status": 304, "headers": [(b"content-length", b"1000")]})
    await send({"type": "http.response.body", "body": b""})


async def leave(scope, receive, send):
    sys.exit(7)


async def background(scope, receive, send):
    """Goes on after its response."""
    await answer(send, "answered\n")
    await asyncio.sleep(0.2)
    seen.append("background")


async def hints(scope, receive, send):
    link = (b"link", b"</style.css>; rel=preload")
    await send({"type": "http.response.informational", "status": 103, "headers": [link]})
    await send({"type": "http.response.early_hint", "links": [b"</a.js>; rel=preload"]})
    await answer(send, "hinted\n")


async def trailers(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"trailer", b"x-sum")], "trailers": True})
    await send({"type": "http.response.body", "body": b"body"})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"4")]})


async def path_send(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.pathsend", "path": scope["query_string"].decode()})


async def facts(scope, receive, send):
    """What an application finds around it."""
    variable.set("mine")
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    in_thread = await loop.run_in_executor(None, lambda: "thread")
    made = await asyncio.create_task(receive())
    found = {
        "task": task is not None and task in asyncio.all_tasks(),
        "same_task": asyncio.current_task() is task,
        "loop": type(loop).__module__.split(".")[0],
        "executor": in_thread,
        "receive": made["type"],
        "variable": variable.get(),
        "state": scope["state"],
        "pid": os.getpid(),
    }
    await answer(send, json.dumps(found))


async def show_variable(scope, receive, send):
    await answer(send, variable.get())


async def half_duplex(scope, receive, send):
    """Waits in a second task while the first sends."""
    done = asyncio.Event()

    async def wait():
        await body_of(receive)
        done.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(wait())
        await done.wait()
        group.create_task(answer(send, "from a task of its own\n"))


ROUTES = {
    "/": hello,
    "/background": background,
    "/digest": digest,
    "/echo": echo,
    "/facts": facts,
    "/fail-early": fail_early,
    "/fail-late": fail_late,
    "/fail-started": fail_started,
    "/flood": flood,
    "/forget": forget,
    "/half-duplex": half_duplex,
    "/head-first": head_first,
    "/hints": hints,
    "/injected": injected,
    "/leave": leave,
    "/linger": linger,
    "/no-content": no_content,
    "/not-modified": not_modified,
    "/path-send": path_send,
    "/seen": show_seen,
    "/silent": silent,
    "/sleep": sleep,
    "/stream": stream,
    "/trailers": trailers,
    "/unfinished": unfinished,
    "/variable": show_variable,
}


async def socket(scope, receive, send):
    """A WebSocket that does what its path says."""
    path = scope["path"]
    assert (await receive())["type"] == "websocket.connect"
    if path == "/deny":
        await send({"type": "websocket.close"})
        return
    if path == "/reject":
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-why", b"because")]})
        await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"you"})
        return
    if path == "/fail":
        raise ValueError("failed before the handshake")
    subprotocol = scope["subprotocols"][-1] if scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": [(b"x-hello", b"there")]})
    if path == "/fail-open":
        raise ValueError("failed after the handshake")
    if path == "/close":
        await send({"type": "websocket.close", "code": 3001, "reason": "enough"})
        seen.append(f"own close {(await receive())['code']}")
        return
    if path == "/return":
        return
    if path == "/scope":
        await send({"type": "websocket.send", "text": json.dumps(plain(scope))})
    if path == "/flood":
        for _ in range(1024):
            await send({"type": "websocket.send", "bytes": os.urandom(65536)})
        return
    if path == "/slow":
        await asyncio.sleep(1)
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            seen.append(f"disconnect {message['code']} {message['reason']}")
            if path == "/late":
                try:
                    await send({"type": "websocket.send", "text": "too late"})
                except OSError as error:
                    seen.append(f"late {error}")
            return
        if message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def lifespan(scope, receive, send):
    assert (await receive())["type"] == "lifespan.startup"
    mode = os.environ.get("LIFESPAN", "")
    if mode == "fail":
        await send({"type": "lifespan.startup.failed", "message": "no database today"})
        return
    if mode == "raise":
        raise ValueError("raised in the lifespan")
    scope["state"]["started"] = "yes"
    print("lifespan: started", flush=True)
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    print("lifespan: stopped", flush=True)
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["type"] == "http":
        await ROUTES.get(scope["path"], show_scope)(scope, receive, send)
    else:
        await socket(scope, receive, send)


class Old:
    """An application of ASGI 2."""

    def __init__(self, scope):
        if scope["type"] == "lifespan":
            raise RuntimeError("not known here")
        self.scope = scope

    async def __call__(self, receive, send):
        await answer(send, "old\n")


def wsgi(environ, start_response):
    raise AssertionError("never called")
