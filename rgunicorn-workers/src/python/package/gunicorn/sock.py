"""Listening sockets, as worker classes are given them."""

import socket
import stat
import os


class BaseSocket:
    """A listening socket; whatever isn't defined here is the socket's own."""

    FAMILY = None

    def __init__(self, address, conf, log, fd=None):
        self.cfg_addr = address
        self.conf = conf
        self.log = log
        if fd is None:
            self.sock = socket.socket(self.FAMILY, socket.SOCK_STREAM)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.bind(self.sock)
            self.sock.listen(conf.backlog)
        else:
            self.sock = socket.socket(self.FAMILY, socket.SOCK_STREAM, fileno=fd)
        self.sock.setblocking(False)

    def __getattr__(self, name):
        if name == "sock":
            raise AttributeError(name)
        return getattr(self.sock, name)

    def __str__(self):
        return f"<socket {self.sock.fileno()}>"

    def bind(self, sock):
        sock.bind(self.cfg_addr)

    def close(self):
        if self.sock is not None:
            try:
                self.sock.close()
            except OSError as error:
                self.log.info("Error while closing socket %s", error)
            self.sock = None

    def get_backlog(self):
        return -1


class TCPSocket(BaseSocket):
    FAMILY = socket.AF_INET

    def __str__(self):
        host, port = self.sock.getsockname()[:2]
        return f"{'https' if self.conf.is_ssl else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


class TCP6Socket(TCPSocket):
    FAMILY = socket.AF_INET6


class UnixSocket(BaseSocket):
    FAMILY = socket.AF_UNIX

    def __init__(self, address, conf, log, fd=None):
        if fd is None and os.path.exists(address):
            if not stat.S_ISSOCK(os.stat(address).st_mode):
                raise ValueError(f"{address!r} is not a socket")
            os.unlink(address)
        super().__init__(address, conf, log, fd=fd)

    def __str__(self):
        return f"unix:{self.cfg_addr}"


def _sock_type(address):
    """The class for an address: host and port, or a path."""
    if isinstance(address, tuple):
        return TCP6Socket if ":" in address[0] else TCPSocket
    if isinstance(address, (str, bytes)):
        return UnixSocket
    raise TypeError(f"Unable to create socket from: {address!r}")
