"""Two clients keep the server computing; how long do quick requests take beside them? `quick.py port seconds`"""

import asyncio
import json
import sys
import time

RATE = 50


async def ask(port: int, path: str) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        return answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\ndone\n")
    finally:
        writer.close()


async def compute(port: int) -> None:
    while True:
        await ask(port, "/busy")


async def timed(port: int, due: float) -> float | None:
    await asyncio.sleep(due - time.perf_counter())
    try:
        right = await asyncio.wait_for(ask(port, "/"), 10)
    except (OSError, TimeoutError):
        right = False
    return (time.perf_counter() - due) * 1e3 if right else None


async def main(port: int, seconds: int) -> None:
    busy = [asyncio.create_task(compute(port)) for _ in range(2)]
    await asyncio.sleep(0.2)
    start = time.perf_counter()
    all_of_them = await asyncio.gather(*(timed(port, start + n / RATE) for n in range(seconds * RATE)))
    took = time.perf_counter() - start
    if any(task.done() for task in busy):
        sys.exit("a request that computes failed")
    for task in busy:
        task.cancel()
    times = sorted(t for t in all_of_them if t is not None)
    if not times:
        sys.exit("no quick request was answered")
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))]
    print(json.dumps({
        "requests": len(times), "seconds": took, "errors": len(all_of_them) - len(times), "p50": at(0.5), "p99": at(0.99),
    }))


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
