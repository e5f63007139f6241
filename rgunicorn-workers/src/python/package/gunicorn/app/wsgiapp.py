"""The application that `module:attribute` names."""

from .. import util
from .base import Application


class WSGIApplication(Application):
    app_uri = None

    def init(self, parser, opts, args):
        if args:
            self.app_uri = args[0]

    def load_wsgiapp(self):
        return util.import_app(self.app_uri)

    def load(self):
        return self.load_wsgiapp()
