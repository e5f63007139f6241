"""The settings, as worker classes and configuration files see them.

What settings there are, their defaults and what values they take is the server's own table, by way of `_rgunicorn`. Server hooks
are given this, too: what costs memory is imported where it is needed.
"""

import os
import sys
import types

import _rgunicorn
from . import __version__, util
from .errors import ConfigError  # noqa: F401  (others import it from here)

KNOWN_SETTINGS = []

# gunicorn's names of the classes, where they aren't the setting's own name in capitals.
CLASS_NAMES = {
    "accesslog": "AccessLog", "asgi_disconnect_grace_period": "ASGIDisconnectGracePeriod", "asgi_lifespan": "ASGILifespan",
    "asgi_loop": "ASGILoop", "ca_certs": "CACerts", "casefold_http_method": "CasefoldHTTPMethod", "certfile": "CertFile",
    "check_config": "ConfigCheck", "config": "ConfigFile", "enable_backlog_metric": "BacklogMetric", "errorlog": "ErrorLog",
    "forwarded_allow_ips": "ForwardedAllowIPS", "http2_cleartext": "HTTP2Cleartext",
    "http2_initial_window_size": "HTTP2InitialWindowSize", "http2_max_concurrent_streams": "HTTP2MaxConcurrentStreams",
    "http2_max_frame_size": "HTTP2MaxFrameSize", "http2_max_header_list_size": "HTTP2MaxHeaderListSize",
    "http_protocols": "HTTPProtocols", "keyfile": "KeyFile", "logconfig": "LogConfig", "logconfig_dict": "LogConfigDict",
    "logconfig_json": "LogConfigJson", "nworkers_changed": "NumWorkersChanged",
    "permit_unconventional_http_method": "PermitUnconventionalHTTPMethod",
    "permit_unconventional_http_version": "PermitUnconventionalHTTPVersion", "post_fork": "Postfork", "pre_fork": "Prefork",
    "proc_name": "Procname", "proxy_allow_ips": "ProxyAllowFrom", "pythonpath": "PythonPath", "raw_env": "Env",
    "raw_paste_global_conf": "PasteGlobalConf", "secure_scheme_headers": "SecureSchemeHeader", "ssl_context": "NewSSLContext",
    "ssl_version": "SSLVersion", "suppress_ragged_eofs": "SuppressRaggedEOFs", "syslog_addr": "SyslogTo",
    "threads": "WorkerThreads", "uwsgi_allow_ips": "UWSGIAllowFrom", "websocket_max_message_size": "WebSocketMaxMessageSize",
    "wsgi_app": "WSGIApp",
}  # fmt: skip


# StatsD is told of messages and requests by the server itself.
OWN_LOGGERS = ("gunicorn.glogging.Logger", "gunicorn.instrument.statsd.Statsd")

# Of the module ssl, which is large.
CERT_NONE = 0
PROTOCOL_TLS = 2


class Setting:
    """A setting and its value."""

    name = None
    section = None
    cli = None
    meta = None
    default = None
    short = None
    desc = None
    action = None
    nargs = None
    const = None
    type = None
    order = 0
    validator = None

    def __init__(self):
        self.value = self.default

    def get(self):
        return self.value

    def set(self, value):
        if isinstance(self.default, (list, dict)) and value is None:
            self.value = type(self.default)()
        else:
            self.value = read(self.name, value)

    def copy(self):
        other = type(self)()
        other.value = self.value
        return other

    def add_option(self, parser):
        if not self.cli:
            return
        options = {"dest": self.name, "default": None, "help": f"{self.short} [{self.default}]".replace("%", "%%")}
        if self.action:
            options["action"] = self.action
        if self.action in (None, "append"):
            options["metavar"] = self.meta
        parser.add_argument(*self.cli, **options)

    def __lt__(self, other):
        return (self.section, self.order) < (other.section, other.order)

    def __repr__(self):
        return f"<{type(self).__module__}.{type(self).__name__} object at {id(self):x} with value {self.value!r}>"


class Hook(Setting):
    """A setting that is a function; by default one that does nothing."""

    def __init__(self):
        self.value = type(self).default

    def set(self, value):
        if isinstance(value, str):
            value = util.load_class(value, section="gunicorn.hooks")
        if not callable(value):
            raise TypeError(f"{self.name}: {value!r} is not callable")
        self.value = value


def read(name, value):
    """The value as the server reads it for this setting; a ValueError says what is wrong with it."""
    if name == "user" and value is None:
        return os.geteuid()
    if name == "group" and value is None:
        return os.getegid()
    if callable(value):
        return value
    if name == "sendfile":
        return value
    return _rgunicorn.read_setting(name, value)


def nothing(name):
    def hook(*arguments):
        pass

    hook.__name__ = hook.__qualname__ = name
    return hook


def default_ssl_context(config, default_ssl_context_factory):
    return default_ssl_context_factory()


def declare(order, name, section, flags, meta, takes, help, default, is_hook):
    """Makes the class of a setting from the server's table."""
    default = {"user": os.geteuid(), "group": os.getegid(), "sendfile": None, "cert_reqs": CERT_NONE,
               "ssl_version": PROTOCOL_TLS}.get(name, default)  # fmt: skip
    attributes = {
        "name": name, "section": section, "cli": flags or None, "meta": meta, "desc": help, "short": help.splitlines()[0],
        "order": order, "default": default, "action": {"on": "store_true", "off": "store_false", "many": "append"}.get(takes),
    }  # fmt: skip
    if name == "sendfile":
        attributes["action"] = "store_true"
    if is_hook:
        attributes["default"] = staticmethod(default_ssl_context if name == "ssl_context" else nothing(name))
    class_name = CLASS_NAMES.get(name) or "".join(part.capitalize() for part in name.split("_"))
    made = type(class_name, (Hook if is_hook else Setting,), attributes)
    made.__module__ = __name__
    KNOWN_SETTINGS.append(made)
    globals()[class_name] = made


for number, entry in enumerate(_rgunicorn.settings()):
    declare(number, *entry)
del number, entry


def make_settings(ignore=None):
    """Every setting by its name, at its default."""
    return {known.name: known() for known in KNOWN_SETTINGS if known.name not in (ignore or ())}


class Config:
    """All settings, as attributes."""

    def __init__(self, usage=None, prog=None):
        self.settings = make_settings()
        self.usage = usage
        self.prog = prog or os.path.basename(sys.argv[0] if sys.argv else "rgunicorn")
        self.env_orig = os.environ.copy()

    def __str__(self):
        width = max(map(len, self.settings))

        def shown(value):
            return f"<{value.__qualname__}()>" if isinstance(value, types.FunctionType) else value

        return "\n".join(f"{name:{width}} = {shown(self.settings[name].value)}" for name in sorted(self.settings))

    def __getattr__(self, name):
        # Found neither on the instance nor in the class.
        settings = self.__dict__.get("settings", {})
        if name not in settings:
            raise AttributeError(f"No configuration setting for: {name}")
        return settings[name].get()

    def __setattr__(self, name, value):
        if name != "settings" and name in self.__dict__.get("settings", {}):
            raise AttributeError(f"{name} is a setting: use set({name!r}, ...)")
        super().__setattr__(name, value)

    def set(self, name, value):
        if name not in self.settings:
            raise AttributeError(f"No configuration setting for: {name}")
        self.settings[name].set(value)

    def validate(self):
        """The server checks settings against each other itself."""

    def parser(self):
        import argparse

        parser = argparse.ArgumentParser(usage=self.usage, prog=self.prog)
        parser.add_argument("-v", "--version", action="version", version=f"%(prog)s (version {__version__})")
        parser.add_argument("args", nargs="*", help=argparse.SUPPRESS)
        for setting in sorted(self.settings.values()):
            setting.add_option(parser)
        return parser

    def get_cmd_args_from_env(self):
        import shlex

        return shlex.split(self.env_orig.get("GUNICORN_CMD_ARGS", ""))

    @property
    def worker_class_str(self):
        value = self.settings["worker_class"].get()
        if not isinstance(value, str):
            return value.__name__
        return "gthread" if self._is_threaded(value) else value

    @property
    def worker_class(self):
        value = self.settings["worker_class"].get()
        if isinstance(value, str) and "." not in value and ":" not in value:
            # One of the server's own: its name is all there is of it in Python.
            return self.worker_class_str
        if self._is_threaded(value):
            value = "gunicorn.workers.gthread.ThreadWorker"
        found = util.load_class(value)
        if hasattr(found, "setup"):
            found.setup()
        return found

    def _is_threaded(self, worker_class):
        return worker_class in ("sync", "gunicorn.workers.sync.SyncWorker") and self.threads > 1

    @property
    def logger_class(self):
        value = self.settings["logger_class"].get()
        if value in OWN_LOGGERS:
            if self.settings["statsd_host"].get() or value != OWN_LOGGERS[0]:
                from .instrument.statsd import ServerStatsd

                return ServerStatsd
            from .glogging import Logger

            return Logger
        found = util.load_class(value, default="gunicorn.glogging.Logger", section="gunicorn.loggers")
        if hasattr(found, "install"):
            found.install()
        return found

    @property
    def address(self):
        return [util.parse_address(address) for address in self.settings["bind"].get()]

    @property
    def uid(self):
        return self.settings["user"].get()

    @property
    def gid(self):
        return self.settings["group"].get()

    @property
    def proc_name(self):
        name = self.settings["proc_name"].get()
        return self.settings["default_proc_name"].get() if name is None else name

    @property
    def statsd_host(self):
        """A path, or host and port."""
        value = self.settings["statsd_host"].get()
        if not value:
            return None
        if value.startswith("unix://"):
            return value[len("unix://") :]
        host, _, port = value.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def is_ssl(self):
        return self.certfile or self.keyfile

    @property
    def ssl_options(self):
        return {name: setting.get() for name, setting in self.settings.items() if setting.section == "SSL"}

    @property
    def env(self):
        return self._pairs("raw_env")

    @property
    def paste_global_conf(self):
        return self._pairs("raw_paste_global_conf")

    def _pairs(self, name):
        import re

        pairs = {}
        for text in self.settings[name].get() or ():
            # An equals sign in a name is written with a backslash.
            key, equals, value = (re.split(r"(?<!\\)(=)", text, maxsplit=1) + ["", ""])[:3]
            if not equals:
                raise RuntimeError(f"{name}: {text!r} is not NAME=value")
            pairs[key.replace("\\=", "=")] = value.replace("\\=", "=")
        return pairs

    @property
    def sendfile(self):
        if self.settings["sendfile"].get() is not None:
            return False
        return os.environ.get("SENDFILE", "yes").lower() in ("y", "1", "yes", "true")

    @property
    def reuse_port(self):
        return self.settings["reuse_port"].get()

    def forwarded_allow_networks(self):
        return self._networks("forwarded_allow_ips")

    def proxy_allow_networks(self):
        return self._networks("proxy_allow_ips")

    def _networks(self, name):
        import ipaddress

        return [ipaddress.ip_network(peer) for peer in self.settings[name].get() if peer != "*"]


def get_default_config_file():
    path = os.path.join(os.getcwd(), "gunicorn.conf.py")
    return path if os.path.exists(path) else None


def validate_bool(value):
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if isinstance(value, bool) or value is None:
        return value
    raise TypeError(f"{value!r} is not True or False")


def validate_string(value):
    if value is None or isinstance(value, str):
        return value if value is None else value.strip()
    raise TypeError(f"{value!r} is not text")


def validate_dict(value):
    if isinstance(value, dict):
        return value
    raise TypeError(f"{value!r} is not a dictionary")


def validate_pos_int(value):
    number = int(value) if isinstance(value, int) else int(value, 0)
    if number < 0:
        raise ValueError(f"{value!r} is less than nothing")
    return number


def validate_callable(arity):
    def validate(value):
        if isinstance(value, str):
            value = util.load_class(value, section="gunicorn.hooks")
        if not callable(value):
            raise TypeError(f"{value!r} is not callable")
        if arity != -1 and util.get_arity(value) != arity:
            raise TypeError(f"{value!r} must take {arity} arguments")
        return value

    return validate
