"""Helpers that worker classes share. What costs memory is imported where it is needed."""

import fcntl
import importlib
import io
import os
import sys
import time

from .errors import AppImportError
from .workers import SUPPORTED_WORKERS

# Headers between two neighbours on the way, which an application may not set (RFC 9110, section 7.6.1).
hop_headers = set(
    "connection keep-alive proxy-authenticate proxy-authorization te trailers transfer-encoding upgrade server date".split()
)


# --- classes and applications, by name ---------------------------------------------------------------------------


def load_class(uri, default="gunicorn.workers.sync.SyncWorker", section="gunicorn.workers"):
    """The class that `uri` is or names: a class, `package.module.Class`, a short name or `egg:distribution#name`."""
    if isinstance(uri, type):
        return uri
    if uri.startswith("egg:"):
        distribution, _, name = uri[len("egg:") :].partition("#")
        return load_entry_point(distribution, section, name or default)
    if "." not in uri:
        uri = SUPPORTED_WORKERS.get(uri, uri) if section == "gunicorn.workers" else uri
        if "." not in uri:
            return load_entry_point("gunicorn", section, uri)
    module_name, _, name = uri.rpartition(".")
    try:
        module = importlib.import_module(module_name)
        return getattr(module, name)
    except (ImportError, AttributeError) as error:
        raise RuntimeError(f"class uri {uri!r} invalid or not found: {error}") from error


def load_entry_point(distribution, group, name):
    """The object behind an entry point of an installed distribution."""
    import importlib.metadata

    try:
        found = importlib.metadata.distribution(distribution).entry_points
    except importlib.metadata.PackageNotFoundError:
        found = ()
    for entry in found:
        if entry.group == group and entry.name == name:
            return entry.load()
    raise RuntimeError(f"no entry point {name!r} of group {group!r} in {distribution!r}")


def import_app(uri):
    """The application that `module`, `module:attribute` or `module:factory(...)` names."""
    import _rgunicorn

    return _rgunicorn.import_app(uri)


def make_fail_app(message):
    """An application that answers every request with this message and a 500."""
    body = to_bytestring(message)

    def application(environ, start_response):
        start_response(
            "500 Internal Server Error",
            [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))],
        )
        return [body]

    return application


def get_arity(function):
    """How many arguments a function is called with by position."""
    import inspect

    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in kinds for parameter in inspect.signature(function).parameters.values())


# --- the process -------------------------------------------------------------------------------------------------


def seed():
    """Gives this process random numbers of its own."""
    import random

    random.seed()


def getcwd():
    """The working directory, by the name that the shell has for it if that is the same one."""
    here = os.getcwd()
    named = os.environ.get("PWD", "")
    try:
        return named if os.path.samefile(named, here) else here
    except OSError:
        return here


def get_username(uid):
    import pwd

    return pwd.getpwuid(uid).pw_name


def set_owner_process(uid, gid, initgroups=False):
    """Becomes this user and group, as far as this process isn't them already."""
    if gid:
        gid = abs(gid) & 0x7FFFFFFF
        if initgroups and uid:
            try:
                os.initgroups(get_username(uid), gid)
            except KeyError:
                initgroups = False
        if not initgroups and gid != os.getgid():
            os.setgid(gid)
    if uid and uid != os.getuid():
        os.setuid(uid)


def chown(path, uid, gid):
    os.chown(path, uid, gid)


def unlink(path):
    """Removes a file that may be gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def check_is_writable(path):
    try:
        with open(path, "a"):
            pass
    except OSError as error:
        raise RuntimeError(f"{path!r} isn't writable: {error}") from error


def close_on_exec(descriptor):
    fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.fcntl(descriptor, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)


def set_non_blocking(descriptor):
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_NONBLOCK)


def warn(message):
    print(f"\nWARNING: {message}", file=sys.stderr)


def _setproctitle(title):
    """The arbiter names its processes itself."""


# --- text, bytes, addresses --------------------------------------------------------------------------------------


def to_bytestring(value, encoding="utf8"):
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value.encode(encoding)


def bytes_to_str(value):
    return value if isinstance(value, str) else value.decode("latin1")


def unquote_to_wsgi_str(text):
    import urllib.parse

    return urllib.parse.unquote_to_bytes(text).decode("latin1")


def split_request_uri(uri):
    """The parts of a request's target, of which a path may begin with two slashes."""
    import urllib.parse

    if uri.startswith("//"):
        # Else the first part of the path would be taken for a host.
        parts = urllib.parse.urlsplit("." + uri)
        return parts._replace(path=parts.path[1:])
    return urllib.parse.urlsplit(uri)


def is_ipv6(address):
    import socket

    try:
        socket.inet_pton(socket.AF_INET6, address)
    except (OSError, ValueError):
        return False
    return True


def parse_address(netloc, default_port="8000"):
    """What to give to `bind`: a path (str), a descriptor (int), or host and port."""
    for prefix in ("unix://", "unix:"):
        if netloc.startswith(prefix):
            return netloc[len(prefix) :]
    if netloc.startswith("fd://"):
        descriptor = netloc[len("fd://") :]
        try:
            return int(descriptor)
        except ValueError:
            raise RuntimeError(f"{descriptor!r} is not a valid file descriptor.") from None
    netloc = netloc.removeprefix("tcp://")
    if netloc.startswith("["):
        host, _, port = netloc[1:].partition("]")
        port = port.removeprefix(":") or default_port
    elif netloc.count(":") == 1:
        host, _, port = netloc.partition(":")
    else:
        host, port = netloc, default_port
    try:
        return (host.lower() or "0.0.0.0", int(port))
    except ValueError:
        raise RuntimeError(f"{port!r} is not a valid port number.") from None


def http_date(timestamp=None):
    import email.utils

    return email.utils.formatdate(time.time() if timestamp is None else timestamp, usegmt=True)


def is_hoppish(header):
    return header.lower().strip() in hop_headers


def has_fileno(thing):
    """Whether there is a real file behind it."""
    try:
        thing.fileno()
    except (AttributeError, OSError, io.UnsupportedOperation):
        return False
    return True


def reraise(kind, value, traceback=None):
    """Raises what `sys.exc_info()` has told."""
    if value is None:
        value = kind()
    raise value.with_traceback(traceback)


# --- sockets -----------------------------------------------------------------------------------------------------


def close(sock):
    try:
        sock.close()
    except OSError:
        pass


def close_graceful(sock, timeout=2.0, max_drain=65536):
    """Closes so that the peer gets all that was sent, whatever it is still sending itself."""
    import socket

    try:
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(timeout)
        deadline = time.monotonic() + timeout
        while max_drain > 0 and time.monotonic() < deadline:
            piece = sock.recv(min(max_drain, 8192))
            if not piece:
                break
            max_drain -= len(piece)
    except OSError:
        pass
    close(sock)


def write_chunk(sock, data):
    """Sends a piece of a body in chunked coding."""
    if isinstance(data, str):
        data = data.encode("utf-8")
    sock.sendall(b"%X\r\n%b\r\n" % (len(data), data))


def write(sock, data, chunked=False):
    if chunked:
        return write_chunk(sock, data)
    return sock.sendall(data)


def write_nonblock(sock, data, chunked=False):
    before = sock.gettimeout()
    if before == 0.0:
        return write(sock, data, chunked)
    try:
        sock.setblocking(False)
        return write(sock, data, chunked)
    finally:
        sock.settimeout(before)


def write_error(sock, status, reason, message):
    """Sends a small page that says what went wrong, and that the connection ends."""
    import html

    page = (
        f"<html>\n<head><title>{reason}</title></head>\n"
        f"<body>\n<h1>{reason}</h1>\n{html.escape(message)}\n</body>\n</html>\n"
    )
    body = page.encode("utf-8", "replace")
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\n"
        f"Content-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    write_nonblock(sock, head.encode("latin1") + body)
