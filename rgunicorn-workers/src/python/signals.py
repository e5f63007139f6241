"""What signal.getsignal() tells of: handlers that can be called, saved and put back. Executed by signals.rs."""

# Not signal, whose file a worker may not be allowed to read once it runs as another user.
from _signal import SIG_DFL, SIGABRT, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGWINCH, default_int_handler


def plain(number):
    """What a process that heeds no signal yet tells of, as `python3` does."""
    return default_int_handler if number == SIGINT else SIG_DFL


def of_arbiter(number, deliver):
    """Signal `number` means something to the arbiter."""

    def signal(sig, frame):
        deliver(sig)

    return signal


def of_worker(number, deliver, tell):
    """The handler of signal `number` in a worker. `deliver(number)` has the worker heed it, and `tell(number, frame)` the
    hooks of the configuration."""

    def handle_exit(sig, frame):
        deliver(SIGTERM)

    def handle_quit(sig, frame):
        deliver(SIGQUIT)
        if tell is not None:
            tell(SIGQUIT, frame)

    def handle_usr1(sig, frame):
        deliver(SIGUSR1)

    def handle_winch(sig, frame):
        pass

    def handle_abort(sig, frame):
        if tell is not None:
            tell(SIGABRT, frame)
        raise SystemExit(1)

    handlers = {
        SIGTERM: handle_exit,
        SIGINT: handle_quit,
        SIGQUIT: handle_quit,
        SIGUSR1: handle_usr1,
        SIGWINCH: handle_winch,
        SIGABRT: handle_abort,
    }
    return handlers.get(number, SIG_DFL)
