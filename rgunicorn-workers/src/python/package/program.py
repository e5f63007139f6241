"""Runs a program that has a server in it, by gunicorn's BaseApplication. Executed by mod.rs."""

import os
import sys
import types


class Problem(Exception):
    """Something that a sentence explains better than a traceback."""


class Started(BaseException):
    """The program has come to where its server starts. Not an Exception, so that it catches it nowhere."""

    def __init__(self, application):
        self.application = application


def run(path):
    """The BaseApplication that the program runs. It is `__main__`, as if Python had started it."""
    import gunicorn.arbiter
    from gunicorn.app import base

    class Arbiter(gunicorn.arbiter.Arbiter):
        def __init__(self, application):
            raise Started(application)

    base.Arbiter = gunicorn.arbiter.Arbiter = Arbiter
    main = types.ModuleType("__main__")
    main.__file__ = path
    sys.modules["__main__"] = main
    directory = os.path.dirname(path)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    arguments, sys.argv = sys.argv, [path]
    try:
        exec(code, vars(main))
    except Started as started:
        return started.application
    finally:
        sys.argv = arguments
    raise Problem(
        f"{path!r} has come to its end, and has started no server: it makes an object of a subclass of"
        " gunicorn.app.base.BaseApplication, and calls its run()"
    )
