"""A FastAPI application with what people use: forms, uploads, streams, events, a chat, background work, dependencies."""

import asyncio
import contextvars
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, Depends, FastAPI, File, Form, HTTPException, Request, UploadFile, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware

events = []
user = contextvars.ContextVar("user", default="nobody")


@asynccontextmanager
async def lifespan(app):
    yield {"database": "connected", "counter": []}
    print("fastapi: stopped", flush=True)


app = FastAPI(lifespan=lifespan)
app.add_middleware(GZipMiddleware, minimum_size=5000)


@app.middleware("http")
async def note_user(request: Request, call_next):
    user.set(request.headers.get("x-user", "nobody"))
    response = await call_next(request)
    response.headers["x-seen-by"] = "middleware"
    return response


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


async def session():
    events.append("session opened")
    try:
        yield "session"
    except HTTPException:
        events.append("session rolled back")
        raise
    finally:
        events.append("session closed")


@app.post("/items/{number}")
async def make_item(number: int, item: Item, q: str | None = None):
    return {"number": number, "item": item, "q": q, "user": user.get()}


@app.post("/login")
async def login(name: str = Form(), password: str = Form()):
    return {"name": name, "length": len(password)}


@app.post("/upload")
async def upload(file: UploadFile = File(), note: str = Form("")):
    total = 0
    while piece := await file.read(65536):
        total += len(piece)
    return {"name": file.filename, "type": file.content_type, "size": total, "note": note}


@app.put("/raw")
async def raw(request: Request):
    """Reads the body as it arrives."""
    pieces, total = 0, 0
    async for piece in request.stream():
        pieces, total = pieces + 1, total + len(piece)
    return {"size": total, "in pieces": pieces > 2}


@app.get("/stream")
async def stream(count: int = 3):
    async def pieces():
        try:
            for number in range(count):
                yield f"piece {number}\n"
                await asyncio.sleep(0.01)
        finally:
            events.append("stream ended")

    return StreamingResponse(pieces(), media_type="text/plain")


@app.get("/threaded-stream")
def threaded_stream():
    """A synchronous generator: Starlette iterates over it in a thread."""
    return StreamingResponse((b"x" * 10_000 for _ in range(100)), media_type="application/octet-stream")


@app.get("/events")
async def server_sent(request: Request):
    async def pieces():
        number = 0
        try:
            while not await request.is_disconnected():
                yield f"id: {number}\ndata: tick {number}\n\n"
                number += 1
                await asyncio.sleep(0.02)
        finally:
            events.append("events ended")

    return StreamingResponse(pieces(), media_type="text/event-stream")


@app.get("/background")
async def background(tasks: BackgroundTasks):
    async def work(name):
        await asyncio.sleep(0.1)
        events.append(name)

    tasks.add_task(work, "background done")
    tasks.add_task(events.append, "second background done")
    return {"answered": True}


@app.get("/dependency")
async def dependency(fail: bool = False, handle: str = Depends(session)):
    if fail:
        raise HTTPException(409, "conflict")
    return {"handle": handle}


@app.get("/sync")
def in_a_thread():
    """A plain function runs in anyio's thread pool, in the request's context."""
    import threading

    return {"main": threading.current_thread() is threading.main_thread(), "user": user.get()}


@app.get("/state")
async def state(request: Request):
    request.state.counter.append(1)
    return {"database": request.state.database, "count": len(request.state.counter)}


@app.get("/file")
async def file():
    return FileResponse(__file__)


@app.get("/large")
async def large():
    return {"text": "compress me " * 5000}


@app.get("/fail")
async def fail():
    raise ValueError("FastAPI fails")


@app.get("/seen")
async def seen():
    return events


class Room:
    def __init__(self):
        self.members = {}

    async def say(self, text):
        for socket in list(self.members):
            await socket.send_text(text)


room = Room()


@app.websocket("/chat/{name}")
async def chat(socket: WebSocket, name: str):
    await socket.accept()
    room.members[socket] = name
    await room.say(f"{name} has joined")
    try:
        while True:
            await room.say(f"{name}: {await socket.receive_text()}")
    except WebSocketDisconnect as gone:
        del room.members[socket]
        await room.say(f"{name} has left with {gone.code}")


@app.websocket("/guarded")
async def guarded(socket: WebSocket, token: str = ""):
    if token != "secret":
        raise HTTPException(401, "who are you?")
    await socket.accept(subprotocol="json")
    await socket.send_json({"state": socket.state.database, "got": await socket.receive_json()})
    await socket.close(3000, "done")
