"""Runs a module of CPython's own tests in a request, and notes the outcome of each test in a file as it goes: see
tests/cpython_suite."""

import json
import sys
import time
import unittest
import urllib.parse


class Notes(unittest.TestResult):
    """A line a test that begins, a line a test that ends; subtests that fail make their test fail."""

    def __init__(self, path, skipped):
        super().__init__()
        self.file, self.skipped_before, self.outcome = open(path, "a"), skipped, None

    def note(self, *what):
        self.file.write(json.dumps(what) + "\n")
        self.file.flush()

    def startTest(self, test):
        super().startTest(test)
        self.outcome = None
        self.note("begins", test.id())

    def stopTest(self, test):
        super().stopTest(test)
        outcome, why = self.outcome or ("ok", "")
        self.note("ends", test.id(), outcome, why)

    def keep(self, outcome, test, why):
        if "." not in test.id() or test.id().startswith(("setUp", "tearDown")):
            self.note("ends", test.id(), outcome, why)
        if self.outcome is None or self.outcome[0] == "ok":
            self.outcome = outcome, why

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.keep("fails", test, self.failures[-1][1])

    def addError(self, test, error):
        super().addError(test, error)
        self.keep("fails", test, self.errors[-1][1])

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.keep("fails", test, f"{subtest}: {self._exc_info_to_string(error, test)}")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.keep("skipped", test, reason)

    def addExpectedFailure(self, test, error):
        super().addExpectedFailure(test, error)
        self.keep("ok", test, "expected to fail")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.keep("fails", test, "succeeds against expectations")


def without(suite, names):
    """The tests of a suite but for those with these names."""
    left = unittest.TestSuite()
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            left.addTest(without(test, names))
        elif test.id() not in names:
            left.addTest(test)
    return left


def app(environ, start_response):
    query = dict(urllib.parse.parse_qsl(environ["QUERY_STRING"]))
    with open(query["without"]) as file:
        names = set(json.load(file))
    result = Notes(query["notes"], names)
    from test import support

    # As the tests' own runner has it.
    support.verbose = 0
    started = time.monotonic()
    suite = without(unittest.defaultTestLoader.loadTestsFromName(query["module"]), names)
    suite.run(result)
    result.note("over", round(time.monotonic() - started, 1))
    sys.stderr.flush()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"over\n"]
