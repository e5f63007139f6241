"""ASGI applications that ask and send in ways that are hard on a server; each says what it has seen on /seen."""

import asyncio
import os
import sys
import time

import anyio

seen = []
kept = []


async def answer(send, text):
    body = text.encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


def block(path):
    """Keeps the loop until there is a file; says by another one that it does."""
    open(path + ".blocked", "w").close()
    while not os.path.exists(path):
        time.sleep(0.005)


async def impatient(receive, path):
    """The next message. Waiting for the first is given up in a moment in which the loop has no time, and the message comes."""
    asyncio.get_running_loop().call_later(0.01, block, path)
    try:
        async with asyncio.timeout(0.05):
            return await receive()
    except TimeoutError:
        seen.append("given up")
        return await receive()


async def one_of_two(receive, path):
    """Two wait for a message; the one that it comes to is cancelled."""
    first, second = asyncio.create_task(receive()), asyncio.create_task(receive())
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, block, path)
    loop.call_later(0.02, first.cancel)
    message = await second
    await asyncio.wait([first])
    # On some loops the first got it before.
    return message if first.cancelled() else first.result()


async def under_anyio(receive, send):
    """A task of anyio's that is cancelled while it waits."""
    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await anyio.sleep(0.05)
        group.cancel_scope.cancel()
    await send({"type": "websocket.send", "text": "given up"})
    return await receive()


async def not_begun(receive):
    """A task that is cancelled before it has begun."""
    task = asyncio.create_task(receive())
    task.cancel()
    await asyncio.wait([task])
    return await receive()


async def upload(scope, receive, send):
    path = scope["query_string"].decode()
    message = await impatient(receive, path)
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    await answer(send, body.decode())


async def ask_on(scope, receive, send):
    """Takes no notice of what it is told, but counts it."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    try:
        while True:
            seen.append((await receive())["type"])
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise


async def send_on(scope, receive, send):
    """Sends for as long as it can."""
    seen.append("begun")
    while (await receive())["type"] != "http.disconnect":
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        while True:
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
    except OSError:
        seen.append("told by an OSError")
        raise


async def send_on_regardless(scope, receive, send):
    """Sends, whatever it is told."""
    seen.append("begun")
    while (await receive())["type"] != "http.disconnect":
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        while True:
            try:
                await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
            except OSError:
                pass
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise


async def answer_late(scope, receive, send):
    """A response in one piece to a client that has left, and what is to be done after it."""
    seen.append("begun")
    while (await receive())["type"] != "http.disconnect":
        pass
    await asyncio.sleep(0.2)
    await answer(send, "nobody hears it")
    seen.append("done")


async def stream(scope, receive, send):
    """As much as the client takes, and no word to the loop."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x", "more_body": True})


async def references(scope, receive, send):
    """How many hold the conversation of the first socket that has ended, besides those that must."""
    await answer(send, str(sys.getrefcount(kept[0].__self__)))


async def show_seen(scope, receive, send):
    await answer(send, ", ".join(seen))


ROUTES = {
    "/answer-late": answer_late,
    "/ask-on": ask_on,
    "/references": references,
    "/seen": show_seen,
    "/send-on": send_on,
    "/send-on-regardless": send_on_regardless,
    "/stream": stream,
    "/upload": upload,
}


async def socket(scope, receive, send):
    path, query = scope["path"], scope["query_string"].decode()
    await receive()
    if path == "/late":
        while not os.path.exists(query):
            await asyncio.sleep(0.01)
    headers = []
    if path == "/own-headers":
        headers = [(b"Sec-WebSocket-Accept", b"x"), (b"sec-websocket-extensions", b"y"), (b"x-mine", b"z")]
    await send({"type": "websocket.accept", "headers": headers})
    if path == "/late":
        seen.append(str((await receive()).get("code")))
    elif path == "/impatient":
        message = await impatient(receive, query)
        await send({"type": "websocket.send", "text": message["text"]})
    elif path == "/one-of-two":
        message = await one_of_two(receive, query)
        await send({"type": "websocket.send", "text": message["text"]})
    elif path == "/under-anyio":
        message = await under_anyio(receive, send)
        await send({"type": "websocket.send", "text": message["text"]})
    elif path == "/not-begun":
        message = await not_begun(receive)
        await send({"type": "websocket.send", "text": message["text"]})
    elif path == "/deaf":
        await asyncio.sleep(3600)
    elif path == "/kept":
        kept.append(send)
        await receive()
    elif path == "/echo":
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
    elif path == "/flood":
        while True:
            await send({"type": "websocket.send", "bytes": b"f" * 65536})
    elif path == "/turns":
        await count_turns(receive, send, int(query))
    elif path == "/ask-on":
        try:
            while True:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    seen.append("disconnect")
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
    elif path == "/send-on":
        while (await receive())["type"] == "websocket.receive":
            pass
        failures = 0
        while failures < 1000:
            try:
                await send({"type": "websocket.send", "text": "x"})
            except OSError:
                failures += 1
        seen.append("told 1000 times")


async def count_turns(receive, send, messages):
    """How many turns others have while so many messages are received."""
    turns = 0

    async def others():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    await receive()
    await asyncio.sleep(0.5)
    turns = 0
    heard = 0
    for _ in range(messages):
        heard += (await receive())["type"] == "websocket.receive"
    seen.append(f"heard {heard}")
    task.cancel()
    await send({"type": "websocket.send", "text": str(turns)})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("not known here")
    await (socket if scope["type"] == "websocket" else ROUTES[scope["path"]])(scope, receive, send)
