"""A WSGI application with nothing to install.

    rgunicorn --chdir examples run:app
"""


def app(environ, start_response):
    body = b"Hello from rgunicorn\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
