"""Asks `tests/apps/fastapi_site.py` for all that it has."""

import asyncio
import gzip
import json
import sys
import time

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

URL = sys.argv[1]
SOCKETS = URL.replace("http://", "ws://")


async def until(client, what):
    for _ in range(500):
        if what in (await client.get("/seen")).json():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{what!r} never came: {(await client.get('/seen')).json()}")


async def http(client):
    item = {"name": "lamp", "price": 9.5, "tags": ["new"]}
    answer = await client.post("/items/3?q=x", json=item, headers={"x-user": "ann"})
    assert answer.json() == {"number": 3, "item": item, "q": "x", "user": "ann"}, answer.text
    assert answer.headers["x-seen-by"] == "middleware"
    assert (await client.post("/items/3", json=item)).json()["user"] == "nobody"
    assert (await client.post("/items/three", json={})).status_code == 422
    assert (await client.post("/login", data={"name": "ü", "password": "12345"})).json() == {"name": "ü", "length": 5}
    files = {"file": ("big.bin", b"u" * 3_000_000, "application/x-big")}
    answer = await client.post("/upload", files=files, data={"note": "hello"})
    assert answer.json() == {"name": "big.bin", "type": "application/x-big", "size": 3_000_000, "note": "hello"}, answer.text

    async def chunks():
        for _ in range(20):
            yield b"c" * 10_000
            await asyncio.sleep(0.005)

    answer = await client.put("/raw", content=chunks())
    assert answer.json() == {"size": 200_000, "in pieces": True}, answer.text
    async with client.stream("GET", "/stream?count=4") as answer:
        assert [line async for line in answer.aiter_lines()] == [f"piece {number}" for number in range(4)]
    assert len((await client.get("/threaded-stream")).content) == 1_000_000
    assert (await client.get("/sync", headers={"x-user": "bob"})).json() == {"main": False, "user": "bob"}
    first = (await client.get("/state")).json()
    assert first["database"] == "connected" and (await client.get("/state")).json()["count"] == first["count"] + 1
    with open(sys.argv[2], "rb") as file:
        assert (await client.get("/file")).content == file.read()
    async with client.stream("GET", "/large", headers={"accept-encoding": "gzip"}) as answer:
        raw = b"".join([piece async for piece in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip" and json.loads(gzip.decompress(raw))["text"].startswith("compress")
    assert (await client.get("/fail")).status_code == 500
    assert (await client.get("/nowhere")).status_code == 404
    assert (await client.head("/state")).status_code == 405
    assert (await client.get("/docs")).status_code == 200
    assert "/upload" in (await client.get("/openapi.json")).json()["paths"]


async def behind_the_answer(client):
    start = time.monotonic()
    assert (await client.get("/background")).json() == {"answered": True}
    await until(client, "background done")
    await until(client, "second background done")
    assert (await client.get("/dependency")).json() == {"handle": "session"}
    assert (await client.get("/dependency?fail=true")).status_code == 409
    await until(client, "session rolled back")
    seen = (await client.get("/seen")).json()
    assert seen.count("session opened") == seen.count("session closed") == 2, seen
    # A client that leaves ends what was streamed to it.
    async with client.stream("GET", "/events") as answer:
        lines = answer.aiter_lines()
        assert [await anext(lines) for _ in range(4)] == ["id: 0", "data: tick 0", "", "id: 1"]
    await until(client, "events ended")
    async with client.stream("GET", "/stream?count=100000") as answer:
        await anext(answer.aiter_lines())
    await until(client, "stream ended")


async def sockets():
    async with connect(f"{SOCKETS}/chat/ann") as ann:
        assert await ann.recv() == "ann has joined"
        async with connect(f"{SOCKETS}/chat/bob") as bob:
            assert await ann.recv() == await bob.recv() == "bob has joined"
            await bob.send("hello")
            assert await ann.recv() == await bob.recv() == "bob: hello"
            await bob.close(4001)
        assert await ann.recv() == "bob has left with 4001"
        # One that vanishes without a word.
        carl = await connect(f"{SOCKETS}/chat/carl")
        assert await ann.recv() == "carl has joined"
        carl.transport.abort()
        assert await ann.recv() == "carl has left with 1006"
    async with connect(f"{SOCKETS}/guarded?token=secret", subprotocols=["json"]) as socket:
        assert socket.subprotocol == "json"
        await socket.send('{"a": 1}')
        assert json.loads(await socket.recv()) == {"state": "connected", "got": {"a": 1}}
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (3000, "done"), closed
    try:
        await connect(f"{SOCKETS}/guarded")
    except InvalidStatus as refused:
        assert refused.response.status_code == 401 and b"who are you?" in refused.response.body, refused.response


async def main():
    async with httpx.AsyncClient(base_url=URL, timeout=20) as client:
        await http(client)
        await behind_the_answer(client)
        # Many at a time.
        answers = await asyncio.gather(*(client.get("/stream") for _ in range(50)))
        assert all(answer.text == "piece 0\npiece 1\npiece 2\n" for answer in answers)
    await sockets()


asyncio.run(main())
