"""Makes the `gunicorn` package of ours importable where no other is. Executed by mod.rs.

Without importlib.abc, which this would otherwise be the only one to need: on CPython 3.11 it brings in forty modules.
"""

import sys
from _frozen_importlib import ModuleSpec, _find_spec

PACKAGE = "gunicorn"
# What it is called as well, for the server itself, where another gunicorn is installed.
ALIAS = "rgunicorn_package"


class Finder:
    """Finds and loads modules whose sources are in the server's program."""

    def __init__(self, sources):
        # From a module's name to its source, and whether it is a package.
        self.sources = sources

    def find_spec(self, name, path=None, target=None):
        if self._known(name) in self.sources:
            return ModuleSpec(name, self, origin=self._origin(name), is_package=self.is_package(name))
        ours = sys.modules.get(PACKAGE)
        if name.startswith(f"{PACKAGE}.") and getattr(ours, "__loader__", None) is self:
            raise ModuleNotFoundError(
                f"No module named {name!r} among those that rgunicorn brings for worker classes; gunicorn itself has it:"
                " pip install gunicorn",
                name=name,
            )
        return None

    def create_module(self, spec):
        """None: Python makes it."""

    def is_package(self, name):
        return self.sources[self._known(name)][1]

    def get_source(self, name):
        return self.sources[self._known(name)][0]

    def get_code(self, name):
        return compile(self.get_source(name), self._origin(name), "exec", dont_inherit=True)

    def exec_module(self, module):
        module.__file__ = self._origin(module.__name__)
        exec(self.get_code(module.__name__), vars(module))

    @staticmethod
    def _known(name):
        return PACKAGE + name[len(ALIAS) :] if name.split(".", 1)[0] == ALIAS else name

    def _origin(self, name):
        # One in angle brackets alone would have no lines in tracebacks.
        return f"<rgunicorn>/{name.replace('.', '/')}{'/__init__' if self.is_package(name) else ''}.py"


class Loggers:
    """Has the loggers of gunicorn's names be there as soon as somebody imports `logging`, which the server does not."""

    def find_spec(self, name, path=None, target=None):
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        spec = _find_spec(name, path)
        execute = getattr(getattr(spec, "loader", None), "exec_module", None)
        if execute is not None:

            def exec_module(module):
                execute(module)
                if module.__name__ == name:
                    provide()

            try:
                spec.loader.exec_module = exec_module
            except AttributeError:
                pass  # A loader that can't be told.
        return spec


def ours(name):
    """The module of this name in our package, also where another one is installed."""
    try:
        found = isinstance(__import__(PACKAGE).__loader__, Finder)
    except Exception:
        found = False
    name = f"{PACKAGE if found else ALIAS}.{name}"
    __import__(name)
    return sys.modules[name]


def provide():
    """`logging` is there. That somebody imports it is no time to fail."""
    try:
        ours("_handlers")
    except Exception as error:
        sys.modules["_rgunicorn"].log(40, f"Python's loggers can't be had: {type(error).__name__}: {error}")


def install(sources):
    """Behind all other finders: an installed gunicorn goes first."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder(sources))
    if "logging" in sys.modules:
        provide()
    else:
        sys.meta_path.insert(0, Loggers())
