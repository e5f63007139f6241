"""What worker classes and configuration files import from `gunicorn`, where gunicorn itself isn't installed.

Part of rgunicorn, which makes this package importable in the interpreters that it starts. It has the names and the
behaviour that worker classes, loggers and embedding programs of others count on; the server itself is not in here.
"""

import _rgunicorn

# The version whose interface this is.
version_info = (27, 0, 1)
__version__ = ".".join(map(str, version_info))
SERVER = "rgunicorn"
SERVER_SOFTWARE = f"{SERVER}/{_rgunicorn.version}"
