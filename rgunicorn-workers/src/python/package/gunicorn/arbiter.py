"""The names that worker classes and embedding programs know the arbiter by. The arbiter itself is the server's own."""


class Arbiter:
    # What a worker exits with if it can't boot, and if there is no application.
    WORKER_BOOT_ERROR = 3
    APP_LOAD_ERROR = 4

    def __init__(self, app):
        self.app = app
        self.cfg = app.cfg

    def run(self):
        raise RuntimeError("a server runs already: a program that has one in it is started by `rgunicorn -c program:PATH`")
