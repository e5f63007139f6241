"""The way of Python's `logging` to the server, which has the files."""

import logging

import _rgunicorn


class ServerHandler(logging.Handler):
    """Hands records to the server, which writes them to its error log, in whatever form that has."""

    _gunicorn = True

    def emit(self, record):
        try:
            _rgunicorn.log(record.levelno, self.format(record))
        except Exception:
            self.handleError(record)


class AccessHandler(logging.Handler):
    """Hands lines to the server's access log."""

    _gunicorn = True

    def emit(self, record):
        try:
            _rgunicorn.log_access(self.format(record))
        except Exception:
            self.handleError(record)


def is_access_changed():
    """Whether somebody has put a filter, or a handler, on the access log."""
    access = logging.getLogger("gunicorn.access")
    return bool(access.filters) or any(not getattr(handler, "_gunicorn", False) for handler in access.handlers)


def provide():
    """Has the loggers be as applications expect them: many take the handlers and the level of `gunicorn.error` for their
    own."""
    error, access = logging.getLogger("gunicorn.error"), logging.getLogger("gunicorn.access")
    error.propagate = access.propagate = False
    error.setLevel(_rgunicorn.level())
    access.setLevel(logging.INFO)
    if not error.handlers:
        error.addHandler(ServerHandler())


# Whoever imports `logging` imports this module, and has no use for it but that.
provide()
