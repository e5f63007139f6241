"""A site of tornado's: what its applications do with a request and a response."""

import asyncio
import os

from tornado import iostream, web, websocket

closed = []


class Hello(web.RequestHandler):
    def get(self):
        self.set_header("X-Kept", "yes")
        self.write({"hello": self.get_argument("name", "world"), "ip": self.request.remote_ip})


class Echo(web.RequestHandler):
    def post(self):
        self.write(self.request.body)


class Upload(web.RequestHandler):
    def post(self):
        file = self.request.files["file"][0]
        self.write(f"{file['filename']} {len(file['body'])}")


class Stream(web.RequestHandler):
    async def get(self):
        for number in range(3):
            self.write(f"{number},")
            await self.flush()
            await asyncio.sleep(0.05)


@web.stream_request_body
class Counted(web.RequestHandler):
    def prepare(self):
        self.total = 0

    def data_received(self, chunk):
        self.total += len(chunk)

    def put(self):
        self.write(str(self.total))


class Wait(web.RequestHandler):
    async def get(self):
        await asyncio.sleep(1)
        self.write("waited")

    def on_connection_close(self):
        closed.append("closed")


class Closed(web.RequestHandler):
    def get(self):
        self.write(",".join(closed))


class Fail(web.RequestHandler):
    def get(self):
        raise ValueError("failed in a handler")


class Pid(web.RequestHandler):
    def get(self):
        self.write(str(os.getpid()))


class Socket(websocket.WebSocketHandler):
    def initialize(self):
        self.said = []

    def select_subprotocol(self, subprotocols):
        return "two" if "two" in subprotocols else None

    def open(self, name):
        self.write_message({"open": name, "subprotocol": self.selected_subprotocol, "ip": self.request.remote_ip})

    async def on_message(self, message):
        if message == "close":
            self.close(4001, "as asked")
        elif message == "fail":
            raise ValueError("failed in a message")
        else:
            await asyncio.sleep(0)
            await self.write_message(message, binary=isinstance(message, bytes))

    def on_close(self):
        closed.append(f"{self.close_code} {self.close_reason}")


class Endless(web.RequestHandler):
    async def get(self):
        try:
            while True:
                self.write("x" * 1000)
                await self.flush()
        except iostream.StreamClosedError:
            closed.append("the stream is closed")


class Deaf(websocket.WebSocketHandler):
    async def on_message(self, message):
        await asyncio.sleep(3600)


class Loud(websocket.WebSocketHandler):
    def on_message(self, message):
        self.write_message(message)


app = web.Application([
    ("/deaf", Deaf), ("/loud", Loud), ("/endless", Endless),
    ("/socket/(.*)", Socket),
    ("/", Hello), ("/echo", Echo), ("/upload", Upload), ("/stream", Stream), ("/count", Counted), ("/wait", Wait),
    ("/closed", Closed), ("/fail", Fail), ("/pid", Pid),
])
