"""Says early what the page will need."""

LINK = ("Link", "</style.css>; rel=preload; as=style")


def app(environ, start_response):
    hint = environ["wsgi.early_hints"]
    path = environ["PATH_INFO"]
    if path == "/invalid":
        try:
            hint([("Link", "a\r\nSet-Cookie: b")])
        except ValueError as error:
            start_response("200 OK", [])
            return [str(error).encode()]
    if path == "/late":
        write = start_response("200 OK", [])
        write(b"first,")
        hint([LINK])
        return [b"last"]
    if path == "/generator":
        return generate(hint, start_response)
    hint([LINK, ("Link", "</app.js>; rel=preload; as=script")])
    hint([("X-Second", " yes ")])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"the page"]


def generate(hint, start_response):
    start_response("200 OK", [])
    hint([LINK])
    yield b"generated"
    # Too late, and no harm done.
    hint([LINK])
    yield b" and streamed"
