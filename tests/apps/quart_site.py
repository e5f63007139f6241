"""A Quart application: requests, a stream, a WebSocket, its life cycle."""

import asyncio

from quart import Quart, jsonify, request, websocket

app = Quart(__name__)
seen = []


@app.before_serving
async def begin():
    app.config["STARTED"] = "yes"


@app.after_serving
async def end():
    print("quart: stopped", flush=True)


@app.route("/", methods=["GET", "POST"])
async def hello():
    return jsonify(started=app.config["STARTED"], path=request.path, body=len(await request.get_data()))


@app.post("/upload")
async def upload():
    files, form = await request.files, await request.form
    return jsonify(size=len(files["file"].read()), note=form["note"])


@app.get("/stream")
async def stream():
    async def pieces():
        for number in range(5):
            yield f"{number},"
            await asyncio.sleep(0.01)

    return pieces(), 200, {"X-Timeout": "none"}


@app.websocket("/echo")
async def echo():
    try:
        while True:
            await websocket.send(f"echo {await websocket.receive()}")
    finally:
        seen.append("echo ended")


@app.get("/seen")
async def show():
    return jsonify(seen)
