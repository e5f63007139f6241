"""Imports an application by the text that names it. Executed by load.rs; the file name is given to Python as <rgunicorn>.

Each worker keeps what is imported here: modules that most of them have no use for are imported where they are needed.
"""

import os
import sys


class Problem(Exception):
    """Something that a sentence explains better than a traceback."""


class NoModule(Problem):
    """There is not even a module to look for the application in."""


def load(text):
    """Returns (application, None, True), or (None, the text of what went wrong, whether a module was there and ran)."""
    return outcome(text, lambda: find(text))


def load_paste(uri, conf):
    """The same for a PasteDeploy file; `conf` are `name=value` texts for it."""
    return outcome(uri, lambda: find_paste(uri, conf))


def outcome(text, find):
    try:
        return find(), None, True
    except Problem as problem:
        return None, str(problem), not isinstance(problem, NoModule)
    except SystemExit as end:
        return None, f"{text!r} called sys.exit({'' if end.code is None else repr(end.code)}) while it was loaded\n{shown(end)}", False
    except BaseException as error:
        return None, shown(error), False


def find_paste(uri, conf):
    file, _, name = uri.partition("#")
    if ":" not in file and not os.path.exists(file):
        raise NoModule(f"paste: there is no file {file!r}")
    try:
        from paste.deploy import loadapp
    except ImportError as error:
        raise NoModule(f"paste: a library is needed that can't be imported ({error}): pip install PasteDeploy") from None
    import re

    pairs = [re.split(r"(?<!\\)=", text, maxsplit=1) for text in conf]
    for text, pair in zip(conf, pairs):
        if len(pair) != 2:
            raise NoModule(f"raw_paste_global_conf: {text!r} is no 'name=value'")
    defaults = {name.replace("\\=", "="): value.replace("\\=", "=") for name, value in pairs}
    found = loadapp(uri if ":" in uri else f"config:{uri}", relative_to=os.getcwd(), global_conf=defaults)
    if not callable(found):
        raise Problem(f"what {uri!r} describes is of type {type(found).__name__!r}, which can't be called")
    return found


def find(text):
    if text.startswith("program:"):
        import _rgunicorn

        return _rgunicorn.run_program(text.removeprefix("program:")).wsgi()
    module_name, colon, target = text.partition(":")
    names, call = parse(target if colon else "application")
    module = import_module(module_name, target or "application")
    found = module
    for number, name in enumerate(names):
        try:
            found = getattr(found, name)
        except AttributeError:
            # An attribute error inside a property or a module's __getattr__ looks the same and is as final.
            where = ".".join([module_name, *names[:number]])
            raise Problem(f"{where!r} has no attribute {name!r}, which {text!r} asks for") from None
    if call is not None:
        found = make(found, call, text)
    if found is None:
        raise Problem(f"{text!r} is None, where an application is needed")
    if not callable(found):
        raise Problem(f"{text!r} is of type {type(found).__name__!r}, which can't be called; an application can")
    return found


def parse(target):
    """Splits `attr.sub(1, key=2)` into the names and, if it is a call, its arguments."""
    names = target.split(".")
    if all(name.isidentifier() for name in names):
        return names, None
    import ast

    try:
        node = ast.parse(target, mode="eval").body
    except (SyntaxError, ValueError):
        raise unreadable(target) from None
    call = None
    if isinstance(node, ast.Call):
        try:
            positional = [ast.literal_eval(argument) for argument in node.args]
            named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
        except (ValueError, TypeError):
            raise Problem(f"the arguments in {target!r} must be literals, such as \"text\", 1 or None") from None
        if None in named:
            raise unreadable(target)
        call = positional, named
        node = node.func
    names = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise unreadable(target)
    return [node.id, *names], call


def unreadable(target):
    return Problem(f"{target!r} names no application: an attribute (app), or a call that makes one (make_app(\"x\")), is needed")


def import_module(name, target):
    try:
        # Not importlib.import_module(): this one leaves the importer's own frames out of tracebacks.
        __import__(name)
        return sys.modules[name]
    except ImportError as error:
        # As in `run.py` or `site/run.py`: the file, where the module is meant.
        if name.endswith(".py") and os.path.exists(name):
            module = os.path.normpath(name)[:-3].replace(os.sep, ".")
            raise NoModule(f"{name!r} is a file, and a module is needed: is it '{module}:{target}'?") from None
        raise error
    except ValueError as error:
        # Raised by the call itself, not by the module: there is no name.
        if error.__traceback__.tb_next is None:
            raise NoModule(f"{name!r} is no module name") from None
        raise


def make(factory, call, text):
    positional, named = call
    try:
        return factory(*positional, **named)
    except TypeError as error:
        # Raised by the call itself, not inside of what was called: the arguments don't fit.
        if error.__traceback__.tb_next is None:
            raise Problem(f"{text!r}: {error}") from None
        raise


def shown(error):
    """The traceback, without our own part of it."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == "<rgunicorn>":
        frames = frames.tb_next
    import traceback

    return "".join(traceback.format_exception(type(error), error, frames)).rstrip()
