"""A hello world of tornado's own."""

from tornado import web


class Hello(web.RequestHandler):
    def get(self):
        self.set_header("Content-Type", "text/plain")
        self.write("Hello, world!\n")


app = web.Application([("/", Hello)])
