"""The exceptions that mean something to the arbiter."""


class HaltServer(BaseException):
    """The whole server is to stop. Not an Exception, so that no application catches it."""

    def __init__(self, reason, exit_status=1):
        super().__init__(reason, exit_status)
        self.reason = reason
        self.exit_status = exit_status

    def __str__(self):
        return f"<HaltServer {self.reason!r} {self.exit_status}>"


class ConfigError(Exception):
    """A setting is wrong."""


class AppImportError(Exception):
    """The application can't be had."""
