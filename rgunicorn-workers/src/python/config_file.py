"""Executes a configuration file, and writes down what it has set. Executed by config_file.rs."""

import importlib.machinery
import importlib.util
import json
import os
import sys
import traceback
import types

DEPTH = 16  # deeper than any setting, and an end for lists that hold themselves


def evaluate(function, place, output):
    """Executes the file, or what else is at the place; writes the outcome, as JSON, to the descriptor."""
    before, process = dict(os.environ), os.getpid()
    outcome = {}
    try:
        space = globals()[function](place)
    except SystemExit as end:
        outcome["error"] = f"it called sys.exit({'' if end.code is None else repr(end.code)})"
    except BaseException as error:
        outcome["error"] = f"it can't be executed\n{text(shown(error))}"
    else:
        names = [name for name in space if not name.startswith("_")]
        values = [(name, space[name]) for name in names if not isinstance(space[name], types.ModuleType)]
        outcome["settings"] = [[name, tagged(value)] for name, value in values]
        outcome["environment"] = changes(before, os.environ)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # closed, or not there
    if os.getpid() != process:
        os._exit(1)  # one that the file has forked, and that came back
    with open(output, "w", encoding="ascii") as pipe:
        json.dump(outcome, pipe)


def execute(path):
    name, loader = "__config__", None
    if not path.endswith((".py", ".pyc")):
        loader = importlib.machinery.SourceFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return vars(module)


def imported(name):
    # Not importlib.import_module(): this one leaves the importer's own frames out of tracebacks.
    __import__(name)
    return vars(sys.modules[name])


def reimported(name):
    """As imported, for a process that may have imported it before it was changed."""
    known = sys.modules.get(name)
    if known is not None:
        return vars(importlib.reload(known))
    return imported(name)


def programmed(path):
    """The settings that a program with a server in it gives it, and that program as the application."""
    import _rgunicorn

    cfg = _rgunicorn.run_program(path).cfg
    defaults = type(cfg)().settings
    changed = {
        name: setting.get()
        for name, setting in cfg.settings.items()
        if name in defaults and setting.get() != defaults[name].get()
    }
    return changed | {"wsgi_app": f"program:{path}"}


def shown(error):
    """The traceback, without our own part of it and the importer's."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(("<rgunicorn>", "<frozen importlib")):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip()


def changes(before, after):
    """The variables that were set, and those that were deleted (None)."""
    changed = [[text(name), text(value)] for name, value in after.items() if before.get(name) != value]
    return changed + [[text(name), None] for name in before if name not in after]


def text(value):
    """The text, with what UTF-8 can't say replaced."""
    return value.encode("utf-8", "replace").decode("utf-8")


def tagged(value, depth=0):
    """[kind, value] for whatever a setting may be."""
    if value is None:
        return ["none", None]
    if isinstance(value, bool):
        return ["bool", value]
    if isinstance(value, int):
        return ["int", str(int(value))] if -(2**63) <= value < 2**63 else other(value)
    if isinstance(value, float):
        return ["float", float.__repr__(value)]
    if isinstance(value, str):
        return written(str(value))
    if isinstance(value, (bytes, os.PathLike)):
        return written(os.fsdecode(value))
    if isinstance(value, (list, tuple, set, frozenset)) and depth < DEPTH:
        return ["list", [tagged(item, depth + 1) for item in value]]
    if isinstance(value, dict) and depth < DEPTH:
        return ["map", [[text(str(key)), tagged(item, depth + 1)] for key, item in value.items()]]
    if isinstance(value, type):
        return ["class", text(qualified(value))]
    if callable(value):
        return ["callable", text(qualified(value))]
    return other(value)


def written(value):
    """Text, or the bytes of a path that isn't UTF-8, each as a character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        try:
            return ["raw", os.fsencode(value).decode("latin-1")]
        except UnicodeEncodeError:
            return ["text", text(value)]
    return ["text", value]


def qualified(value):
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return f"{module}.{name}" if isinstance(module, str) else str(name)


def other(value):
    try:
        return ["other", text(repr(value))]
    except Exception:
        return ["other", f"<{text(type(value).__qualname__)}>"]
