"""Asks tests/apps/asgiref_site.py, several at once where that matters."""

import asyncio
import sys

import httpx

BASE = sys.argv[1]


async def main():
    async with httpx.AsyncClient(base_url=BASE, timeout=30) as client:

        async def get(path, times=1):
            answers = await asyncio.gather(*(client.get(path) for _ in range(times)))
            assert all(answer.status_code == 200 for answer in answers), answers
            return [answer.json() for answer in answers]

        threads = await get("/sensitive", 4)
        assert len(set(threads)) == 1, f"thread-sensitive code ran in several threads: {threads}"
        assert await get("/concurrency") == [1], "and at the same time"

        threads = await get("/context", 4)
        assert all(first == second for first, second in threads), threads
        assert len({first for first, _ in threads}) == 4, f"each request has a thread of its own: {threads}"
        assert (await get("/concurrency"))[0] > 1, "requests waited for each other"

        await get("/pool", 4)
        assert (await get("/concurrency"))[0] > 1, "requests waited for each other"

        assert await get("/nested", 3) == [[True, True, True, True]] * 3
        for answer in await get("/variables", 3) + await get("/variables"):
            assert answer == ["unset", None, "changed", "changed, too"], answer
        assert await get("/sub-request") == [[200, [True, True, True, True]]]

        failed = await client.get("/failing")
        assert failed.status_code == 500, failed

        body = bytes(range(256)) * 2000
        echoed = await client.post("/wsgi", content=body)
        assert echoed.status_code == 200 and echoed.content == body, len(echoed.content)
        assert echoed.headers["x-length"] == str(len(body)), echoed.headers


asyncio.run(main())
