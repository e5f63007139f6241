"""Makes gunicorn's settings object. Executed by mod.rs."""


class Problem(Exception):
    """Something that a sentence explains better than a traceback."""


def configure(config, changed):
    """The settings, as an object of `config.Config`: those in the list have the value that is there, the others their
    defaults."""
    cfg = config.Config()
    for name, value in changed:
        if name not in cfg.settings:
            continue  # Not one of the gunicorn that is installed.
        try:
            cfg.set(name, value)
        except Exception as error:
            raise Problem(f"{name}: gunicorn refuses {value!r}: {error}") from None
    return cfg
