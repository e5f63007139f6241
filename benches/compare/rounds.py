"""The rounds: A B C, A B C, …, so that what disturbs the machine for a while disturbs all alike."""

import contextlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import answers
import load
import servers
from processes import Failed, Tree, free_port, pinned
from setting_up import ROOT, Setup
from workloads import Workload

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Options:
    rounds: int
    seconds: int
    server_core: int
    load_core: int


@dataclass(frozen=True)
class Measured:
    """Something measured once a round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


@dataclass
class Row:
    server: str
    turns: list[dict[str, float]] = field(default_factory=list)
    absent: str | None = None
    """Why it has no figures."""
    command: str = ""

    def __getitem__(self, what: str) -> Measured:
        return Measured(tuple(turn[what] for turn in self.turns))


def compare(workload: Workload, keys: list[str], setup: Setup, options: Options, say) -> list[Row]:
    rows = [Row(key, absent=why_absent(key, setup)) for key in keys]
    if workload.postgresql:
        with postgresql() as why_not:
            for row in rows:
                row.absent = row.absent or why_not or setup.missing.get("psycopg2-binary")
            return in_rounds(rows, workload, setup, options, say)
    return in_rounds(rows, workload, setup, options, say)


@contextlib.contextmanager
def postgresql():
    """A database, whose address is in the environment of the servers; or the reason why there is none."""
    command = [sys.executable, ROOT / "tests/services.py", "postgresql"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        if not line:
            yield process.stderr.read().strip()
            return
        os.environ["POSTGRESQL"] = " ".join(f"{name}={value}" for name, value in json.loads(line)["postgresql"].items())
        yield None
    finally:
        process.stdin.close()
        process.wait()


def in_rounds(rows: list[Row], workload: Workload, setup: Setup, options: Options, say) -> list[Row]:
    for n in range(options.rounds):
        for row in rows:
            if row.absent:
                continue
            try:
                turn = take_turn(row, workload, setup, options)
            except Failed as failed:
                row.absent = str(failed)
                say(f"  {row.server}: {failed}")
                continue
            row.turns.append(turn)
            say(f"  {n + 1}/{options.rounds} {row.server}: {turn['rate']:,.0f}/s")
    return rows


def why_absent(key: str, setup: Setup) -> str | None:
    name = "nginx" if key == "nginx" else servers.ALL[key].package
    needs = {name, "gunicorn"} if key.startswith("gunicorn") else {name}
    return next((f"{name} {setup.missing[name]}" for name in needs if name in setup.missing), None)


def take_turn(row: Row, workload: Workload, setup: Setup, options: Options) -> dict[str, float]:
    """Starts the server, checks it, measures it, stops it."""
    server = servers.ALL[row.server]
    with tempfile.TemporaryDirectory(prefix="rgunicorn-compare-") as name:
        start = servers.Start(setup.bin, setup.rgunicorn, setup.nginx, workload, free_port(), Path(name))
        command = server.command(start)
        row.command = shown(command, start)
        with Tree(pinned(options.server_core, command), start.directory, environment(setup)) as tree:
            tree.wait_until_it_listens(start.port)
            answers.check(workload, start.port)
            time.sleep(0.3)
            idle = tree.pss()
            # Threads are started then, and CPython has specialised its code. Not where it would leave a server with seconds of
            # requests that nobody waits for.
            warm = load.run(workload, start.port, options.load_core, 1) if not workload.seconds else None
            before = tree.cpu()
            figures = load.run(workload, start.port, options.load_core, max(options.seconds, workload.seconds))
            cpu, after = tree.cpu() - before, tree.pss()
        if figures.requests == 0:
            raise Failed("answered nothing under load")
        if server.logs:
            check_log(start.access_log, figures.requests + (warm.requests if warm else 0))
    return {
        "rate": figures.requests / figures.seconds,
        "p50": figures.p50,
        "p99": figures.p99,
        "cpu": cpu / figures.requests * 1e6,
        "idle": idle,
        "after": after,
        "errors": figures.errors,
    }


def environment(setup: Setup) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GUNICORN", "UWSGI", "GRANIAN"))}
    return kept | {
        "PATH": f"{setup.bin}:{os.environ['PATH']}",
        "VIRTUAL_ENV": str(setup.bin.parent),
        "PYTHONPATH": f"{HERE}:{ROOT / 'examples'}",
    }


def check_log(path: Path, requests: int) -> None:
    with path.open("rb") as log:
        lines = sum(1 for _ in log)
    if lines < requests:
        raise Failed(f"logged {lines} lines for {requests} requests")


def shown(command: list, start: servers.Start) -> str:
    """The command line as a reader would type it."""
    words = shlex.join(map(str, command))
    for long, short in (
        (f"{HERE}/", ""), (f"{start.bin}/", ""), (str(start.rgunicorn), "rgunicorn"), (str(start.bin.parent), "VENV"),
        (str(start.directory), "DIR"), (str(start.port), "PORT"),
    ):
        words = words.replace(long, short)
    return words
