"""Loggers that send metrics to StatsD: the server's own, and one that tells it of messages and requests as well: a base for
others. The server does the same without it."""

import _rgunicorn

from ..glogging import Logger


class Statsd(Logger):
    """`gauge`, `increment`, `decrement`, `timer` and `histogram` send a metric."""

    def __init__(self, cfg):
        super().__init__(cfg)
        prefix = cfg.statsd_prefix.rstrip(".")
        self.prefix = f"{prefix}." if prefix else ""
        self.dogstatsd_tags = cfg.dogstatsd_tags
        self.sock = self._connected(cfg.statsd_host)

    @staticmethod
    def _connected(address):
        if not address:
            return None
        import socket

        try:
            if isinstance(address, str):
                family, place = socket.AF_UNIX, address
            else:
                family, _, _, _, place = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.connect(place)
        except OSError:
            return None
        return sock

    def critical(self, message, *arguments, **options):
        super().critical(message, *arguments, **options)
        self.increment("gunicorn.log.critical", 1)

    def error(self, message, *arguments, **options):
        super().error(message, *arguments, **options)
        self.increment("gunicorn.log.error", 1)

    def warning(self, message, *arguments, **options):
        super().warning(message, *arguments, **options)
        self.increment("gunicorn.log.warning", 1)

    def exception(self, message, *arguments, **options):
        super().exception(message, *arguments, **options)
        self.increment("gunicorn.log.exception", 1)

    def info(self, message, *arguments, **options):
        self.log("info", message, *arguments, **options)

    def debug(self, message, *arguments, **options):
        self.log("debug", message, *arguments, **options)

    def log(self, level, message, *arguments, **options):
        """Logs it; a metric in `extra` (`metric`, `value`, `mtype`) is sent."""
        extra = options.get("extra") or {}
        metric, value = extra.get("metric"), extra.get("value")
        senders = {"gauge": self.gauge, "counter": self.increment, "histogram": self.histogram, "timer": self.timer}
        if metric and value is not None and extra.get("mtype") in senders:
            senders[extra["mtype"]](metric, value)
        if message:
            super().log(level, message, *arguments, **options)

    def access(self, resp, req, environ, request_time):
        super().access(resp, req, environ, request_time)
        status = resp.status if isinstance(resp.status, str) else str(resp.status)
        self.timer("gunicorn.request.duration", request_time.total_seconds() * 1000)
        self.increment("gunicorn.requests", 1)
        self.increment(f"gunicorn.request.status.{status.split(None, 1)[0]}", 1)

    def gauge(self, name, value):
        self._sock_send(f"{self.prefix}{name}:{value}|g")

    def increment(self, name, value, sampling_rate=1.0):
        self._sock_send(f"{self.prefix}{name}:{value}|c|@{sampling_rate}")

    def decrement(self, name, value, sampling_rate=1.0):
        self._sock_send(f"{self.prefix}{name}:-{value}|c|@{sampling_rate}")

    def timer(self, name, value):
        self._sock_send(f"{self.prefix}{name}:{value}|ms")

    def histogram(self, name, value):
        self._sock_send(f"{self.prefix}{name}:{value}|h")

    def _sock_send(self, message):
        if self.sock is None:
            return
        tags = f"|#{self.dogstatsd_tags}" if self.dogstatsd_tags else ""
        try:
            self.sock.send(f"{message}{tags}".encode())
        except OSError:
            pass  # Nobody listens: metrics are worth no more than that.


class ServerStatsd(Statsd):
    """What hooks and worker classes have where `statsd_host` is set: metrics go by the server, which has the socket, the prefix
    and the tags, and counts messages and requests itself."""

    def __init__(self, cfg):
        Logger.__init__(self, cfg)
        self.prefix = ""

    _server_counts = True

    critical = Logger.critical
    error = Logger.error
    warning = Logger.warning
    exception = Logger.exception
    _counts_requests = False

    def count_requests(self):
        """From now on: for a worker without an engine of the server's."""
        self._counts_requests = True

    def access(self, *arguments):
        access = Statsd.access if self._counts_requests else Logger.access
        access(self, *arguments)

    def _sock_send(self, message):
        _rgunicorn.metric(message)
