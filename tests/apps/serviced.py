"""What the applications of tests/services.rs share. SERVICES is what tests/services.py has written."""

import functools
import json
import os
import threading

import flask

app = flask.Flask(__name__)
SERVICES = json.loads(os.environ["SERVICES"])
# Two servers share the services; each has names of its own there.
ME = os.environ["WHO"]
setting_up = threading.Lock()


def once(make):
    """Calls it in the first request that needs it, whoever comes meanwhile waits."""
    made = []

    @functools.wraps(make)
    def get():
        with setting_up:
            if not made:
                made.append(make())
        return made[0]

    return get
