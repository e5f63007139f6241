"""A Socket.IO server beside a Starlette application."""

import socketio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

server = socketio.AsyncServer(async_mode="asgi")


@server.event
async def connect(sid, environ):
    await server.save_session(sid, {"path": environ["asgi.scope"]["path"]})


@server.event
async def greet(sid, data):
    session = await server.get_session(sid)
    await server.emit("greeting", {"hello": data["name"], "path": session["path"]}, to=sid)
    return {"seen": data["name"]}


@server.event
async def picture(sid, data):
    return {"bytes": data[::-1]}


@server.event
async def join(sid, name):
    await server.enter_room(sid, name)


@server.event
async def say(sid, name, text):
    await server.emit("said", text, room=name)


async def home(request):
    return PlainTextResponse("beside")


app = socketio.ASGIApp(server, Starlette(routes=[Route("/", home)]))
