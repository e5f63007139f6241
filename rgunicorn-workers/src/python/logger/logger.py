"""Brings the server's own messages to the logger that the settings name. Executed by mod.rs."""

# For requests.py: in the arbiter, so that no worker imports them in the middle of something.
import datetime  # noqa: F401
import http  # noqa: F401
import logging
import threading

import _rgunicorn


def name_thread():
    threading.current_thread().name = "logger"


def is_statsd(log):
    """Whether it tells StatsD of everything by itself."""
    return not hasattr(log, "_server_counts") and any(
        base.__name__ == "Statsd" and "statsd" in base.__module__ for base in type(log).__mro__
    )


def least(log):
    """The least severe level that it takes."""
    return log.error_log.getEffectiveLevel() if hasattr(log, "error_log") else 0


class Messages:
    """The server's messages, for one logger."""

    def __init__(self, log):
        self.log = log
        self.level = None

    def take(self, level, text, raised):
        """`raised` is the exception that the message is about, whose traceback is not in it."""
        now = _rgunicorn.level()
        if self.level is None:
            self.level = now
        elif now != self.level:
            # Somebody has asked for another one while the server runs.
            self.level = now
            if hasattr(self.log, "error_log"):
                self.log.error_log.setLevel(now)
        if raised is None:
            getattr(self.log, level)(text)
            return
        traceback = raised.__traceback__
        try:
            raise raised
        except BaseException:
            # This was no frame of its way. As in gunicorn, it is the one that is being handled.
            raised.__traceback__ = traceback
            if level == "error":
                self.log.exception(text)
            else:
                getattr(self.log, level)(text, exc_info=True)

    def end(self):
        logging.shutdown()

    def reopen(self):
        self.log.reopen_files()
