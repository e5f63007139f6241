"""An application under every form of name that MODULE:VARIABLE can have."""

from either import Either


def answering(answer):
    @Either
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [answer.encode()]

    return app


class holder:
    class inner:
        app = staticmethod(answering("inner"))


def make(name="nobody", times=0):
    return answering(f"made {name} {times}")


application = answering("application")
app = answering("app")
