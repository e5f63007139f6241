"""Which protocol an application speaks, as far as it can be told without a call. Executed by protocol.rs.

Nothing is imported: workers that have no use for `inspect` keep their memory.
"""

COROUTINE, ANY_NUMBER = 0x80, 0x04


class Some:
    def method(self):
        pass


Function, Method = type(Some.method), type(Some().method)


def is_asgi(application):
    """Whether it is one of ASGI and not one of WSGI. What can't be told is taken for one of WSGI."""
    try:
        return seems_asgi(application)
    except Exception:
        # A stand-in for something that isn't there yet may raise whatever it is asked.
        return False


def seems_asgi(application):
    if isinstance(application, type):
        # Of ASGI 3 if awaiting an instance runs it, of ASGI 2 if calling one does.
        if hasattr(application, "__await__"):
            return True
        made, (called, _) = (application.__init__, 1), function_of(getattr(application, "__call__", None))
        return takes(made, 1) and not takes(made, 2) and is_coroutine_function(called)
    call = function_of(application)
    return is_coroutine_function(call[0]) or takes(call, 3) and not takes(call, 2)


def function_of(call):
    """The function that is called in the end, and how many arguments it is given before those of the caller; (None, 0) if that
    can't be seen."""
    given = 0
    while not isinstance(call, Function):
        if isinstance(call, Method):
            call, given = call.__func__, given + 1
        elif type(call).__name__ == "partial":
            # Of functools, which is not imported to be asked.
            call, given = call.func, given + len(call.args)
        elif isinstance(getattr(type(call), "__call__", None), Function):
            call, given = type(call).__call__, given + 1
        else:
            return None, 0
    return call, given


def is_coroutine_function(function):
    return isinstance(function, Function) and bool(function.__code__.co_flags & COROUTINE)


def takes(call, count):
    """Whether it can be called with so many arguments in their places."""
    function, given = call
    if not isinstance(function, Function):
        return False
    code, count = function.__code__, count + given
    named = code.co_kwonlyargcount > len(function.__kwdefaults__ or ())
    least = code.co_argcount - len(function.__defaults__ or ())
    return not named and least <= count and (count <= code.co_argcount or bool(code.co_flags & ANY_NUMBER))
