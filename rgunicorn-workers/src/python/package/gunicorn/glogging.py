"""The logger that hooks and worker classes write to, and the base of those that take the place of the server's own logs.

What it isn't told to handle otherwise goes to the server, which has the files. Server hooks are given it, too: what costs
memory is imported where it is needed.
"""

import logging
import os
import threading
import time

import _rgunicorn

from . import util
from ._handlers import AccessHandler, ServerHandler


def __getattr__(name):
    if name == "SYSLOG_FACILITIES":
        from logging.handlers import SysLogHandler

        facilities = {name.lower(): number for name, number in SysLogHandler.facility_names.items()}
        return facilities | {"security": 4}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


CONFIG_DEFAULTS = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["error_console"], "propagate": True, "qualname": "gunicorn.error"},
        "gunicorn.access": {"level": "INFO", "handlers": ["console"], "propagate": True, "qualname": "gunicorn.access"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stdout"},
        "error_console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stderr"},
    },
    "formatters": {
        "generic": {
            "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
            "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
            "class": "logging.Formatter",
        }
    },
}


def loggers():
    """Every logger that exists."""
    return [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]


class SafeAtoms(dict):
    """What an access line can be made of: what isn't there is a dash, and no quotation mark ends a field early."""

    def __init__(self, atoms):
        super().__init__(
            (name, value.replace('"', '\\"') if isinstance(value, str) else value) for name, value in atoms.items()
        )

    def __getitem__(self, name):
        # Names of headers and variables have no case.
        return self.get(name.lower() if name.startswith("{") else name, "-")


class Logger:
    """What a worker has as `self.log`."""

    LOG_LEVELS = {
        "critical": logging.CRITICAL,
        "error": logging.ERROR,
        "warning": logging.WARNING,
        "info": logging.INFO,
        "debug": logging.DEBUG,
    }
    loglevel = logging.INFO

    error_fmt = r"%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
    datefmt = r"[%Y-%m-%d %H:%M:%S %z]"
    access_fmt = "%(message)s"
    syslog_fmt = "[%(process)d] %(message)s"

    atoms_wrapper_class = SafeAtoms

    def __init__(self, cfg):
        self.error_log = logging.getLogger("gunicorn.error")
        self.access_log = logging.getLogger("gunicorn.access")
        for log in (self.error_log, self.access_log):
            log.propagate = False
        self.error_handlers = []
        self.access_handlers = []
        self.logfile = None
        self.lock = threading.Lock()
        self.cfg = cfg
        self._seen = None
        self.setup(cfg)

    def setup(self, cfg):
        self.cfg = cfg
        self.loglevel = self.LOG_LEVELS.get(cfg.loglevel.lower(), logging.INFO)
        self.error_log.setLevel(self.loglevel)
        self.access_log.setLevel(logging.INFO)
        self._seen = None
        to_syslog = cfg.syslog and not cfg.disable_redirect_access_to_syslog
        self._set_handler(self.error_log, ServerHandler(), None)
        access = AccessHandler() if cfg.accesslog is not None or to_syslog else None
        self._set_handler(self.access_log, access, logging.Formatter(self.access_fmt))
        self._configure(cfg)

    def _configure(self, cfg):
        """Has Python's `logging` be as the settings describe it: one of the three."""
        defaults = dict(CONFIG_DEFAULTS)
        if cfg.logconfig_dict:
            self._configure_from(defaults | dict(cfg.logconfig_dict), "logconfig_dict")
        elif cfg.logconfig_json:
            import json

            try:
                with open(cfg.logconfig_json, encoding="utf-8") as file:
                    read = json.load(file)
            except (OSError, ValueError) as error:
                raise RuntimeError(f"logconfig_json {cfg.logconfig_json!r}: {error}") from error
            self._configure_from(defaults | read, "logconfig_json")
        elif cfg.logconfig:
            if not os.path.exists(cfg.logconfig):
                raise RuntimeError(f"logconfig {cfg.logconfig!r}: there is no such file")
            from logging.config import fileConfig

            defaults |= {"__file__": cfg.logconfig, "here": os.path.dirname(cfg.logconfig)}
            try:
                fileConfig(cfg.logconfig, defaults=defaults, disable_existing_loggers=False)
            except Exception as error:
                raise RuntimeError(f"logconfig {cfg.logconfig!r}: {type(error).__name__}: {error}") from error

    @staticmethod
    def _configure_from(description, setting):
        from logging.config import dictConfig

        try:
            dictConfig(description)
        except (AttributeError, ImportError, TypeError, ValueError) as error:
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            raise RuntimeError(f"{setting}: {error}{cause}") from error

    def _get_gunicorn_handler(self, log):
        return next((handler for handler in log.handlers if getattr(handler, "_gunicorn", False)), None)

    def _set_handler(self, log, handler, formatter):
        """Puts a handler, if there is one, in the place of the one that was there."""
        before = self._get_gunicorn_handler(log)
        if before is not None:
            log.removeHandler(before)
        if handler is None:
            return
        if formatter is not None:
            handler.setFormatter(formatter)
        handler._gunicorn = True
        log.addHandler(handler)

    def _follow(self):
        """Has the same level as the server once somebody has changed that (`rgunicorn ctl loglevel`)."""
        level = _rgunicorn.level()
        if self._seen not in (None, level):
            self.error_log.setLevel(level)
        self._seen = level

    def critical(self, message, *arguments, **options):
        self.error_log.critical(message, *arguments, **options)

    def error(self, message, *arguments, **options):
        self.error_log.error(message, *arguments, **options)

    def warning(self, message, *arguments, **options):
        self._follow()
        self.error_log.warning(message, *arguments, **options)

    def info(self, message, *arguments, **options):
        self._follow()
        self.error_log.info(message, *arguments, **options)

    def debug(self, message, *arguments, **options):
        self._follow()
        self.error_log.debug(message, *arguments, **options)

    def exception(self, message, *arguments, **options):
        self.error_log.exception(message, *arguments, **options)

    def log(self, level, message, *arguments, **options):
        self._follow()
        if isinstance(level, str):
            level = self.LOG_LEVELS.get(level.lower(), logging.INFO)
        self.error_log.log(level, message, *arguments, **options)

    @property
    def access_log_enabled(self):
        cfg = self.cfg
        to_syslog = cfg.syslog and not cfg.disable_redirect_access_to_syslog
        return bool(cfg.accesslog or cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json or to_syslog)

    def access(self, resp, req, environ, request_time):
        """Writes the line for a request that was answered, `request_time` (a timedelta) after it came."""
        if not self.access_log_enabled:
            return
        try:
            atoms = self.atoms_wrapper_class(self.atoms(resp, req, environ, request_time))
            self.access_log.info(self.cfg.access_log_format, atoms)
        except Exception:
            import traceback

            self.error(traceback.format_exc())

    def atoms(self, resp, req, environ, request_time):
        """What the access line can be made of, by the names that `access_log_format` has for it."""
        status = resp.status.split(None, 1)[0] if isinstance(resp.status, str) else resp.status
        sent = getattr(resp, "sent", None)
        micros = request_time.seconds * 1_000_000 + request_time.microseconds
        atoms = {
            "h": environ.get("REMOTE_ADDR", "-"),
            "l": "-",
            "u": self._get_user(environ) or "-",
            "t": self.now(),
            "r": f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {environ['SERVER_PROTOCOL']}",
            "s": status,
            "m": environ.get("REQUEST_METHOD"),
            "U": environ.get("PATH_INFO"),
            "q": environ.get("QUERY_STRING"),
            "H": environ.get("SERVER_PROTOCOL"),
            "b": "-" if sent is None else str(sent),
            "B": sent,
            "f": environ.get("HTTP_REFERER", "-"),
            "a": environ.get("HTTP_USER_AGENT", "-"),
            "T": request_time.seconds,
            "D": micros,
            "M": micros // 1000,
            "L": f"{request_time.seconds}.{request_time.microseconds:06d}",
            "p": f"<{os.getpid()}>",
        }
        for kind, fields in (("i", getattr(req, "headers", req)), ("o", resp.headers), ("e", environ)):
            pairs = fields.items() if hasattr(fields, "items") else fields
            atoms.update((f"{{{name.lower()}}}{kind}", value) for name, value in pairs)
        return atoms

    def now(self):
        return time.strftime("[%d/%b/%Y:%H:%M:%S %z]")

    def _get_user(self, environ):
        scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        import base64
        import binascii

        try:
            name = base64.b64decode(credentials.strip().encode()).partition(b":")[0]
        except (binascii.Error, UnicodeError, ValueError) as error:
            self.debug("The user of a request can't be read: %s", error)
            return None
        try:
            return name.decode()
        except UnicodeDecodeError:
            return name.decode("latin-1")

    def reopen_files(self):
        """Follows a log rotation."""
        _rgunicorn.reopen_logs()
        for handler in self._file_handlers():
            handler.acquire()
            try:
                if handler.stream:
                    handler.close()
                    handler.stream = handler._open()
            finally:
                handler.release()

    def close_on_exec(self):
        for handler in self._file_handlers():
            if handler.stream:
                util.close_on_exec(handler.stream.fileno())

    @staticmethod
    def _file_handlers():
        for log in loggers():
            yield from (handler for handler in log.handlers if isinstance(handler, logging.FileHandler))
