"""The applications that the WSGI servers serve. Nothing is imported here that one of them alone needs: memory is measured."""

import time

TEN_KB = b"0123456789abcdef" * 640
TEXT = ("Content-Type", "text/plain")


def answer(start_response, body):
    start_response("200 OK", [TEXT, ("Content-Length", str(len(body)))])
    return [body]


def hello(environ, start_response):
    return answer(start_response, b"Hello, world!\n")


def ten_kb(environ, start_response):
    return answer(start_response, TEN_KB)


def echo(environ, start_response):
    return answer(start_response, environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))


def sleep(environ, start_response):
    time.sleep(0.01)
    return answer(start_response, b"slept\n")


def busy(environ, start_response):
    """`/busy` computes for a second, all else answers at once."""
    if environ["PATH_INFO"] == "/busy":
        end = time.perf_counter() + 1
        while time.perf_counter() < end:
            sum(range(1000))
    return answer(start_response, b"done\n")
