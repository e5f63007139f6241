"""The command line, and the order of things."""

import argparse
import datetime
import os
import signal
import sys
from pathlib import Path

import chart
import report
import rounds
import servers
import workloads
from setting_up import TARGET, set_up


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def names(known):
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return chosen

    return parse


def one_or_more(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def arguments() -> argparse.Namespace:
    cores = sorted(os.sched_getaffinity(0))
    keys = [workload.key for workload in workloads.ALL]
    parser = argparse.ArgumentParser(
        prog="benches/compare/run",
        description="Compares rgunicorn with its peers, and prints the report; a chart goes to target/compare.svg.",
    )
    parser.add_argument("--workloads", type=names(keys), default=keys, help=f"with commas between them, of: {', '.join(keys)}")
    parser.add_argument("--servers", type=names(servers.ALL), help=f"with commas between them, of: {', '.join(servers.ALL)}")
    parser.add_argument("--rounds", type=one_or_more, default=5, help="how often each server has its turn (5)")
    parser.add_argument("--seconds", type=one_or_more, default=4, help="how long a turn is (4)")
    parser.add_argument("--server-core", type=int, choices=cores, default=cores[0])
    parser.add_argument("--load-core", type=int, choices=cores, default=cores[-1])
    parser.add_argument(
        "--python", default=os.environ.get("PYO3_PYTHON", sys.executable),
        help="the CPython that all servers run (PYO3_PYTHON, or the one that runs this)",
    )
    parser.add_argument("--rgunicorn", type=Path, help="a binary to measure instead of building one")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="writes report and chart into this page, between its markers")
    return parser.parse_args()


def main() -> int:
    # A plain `kill` unwinds as Ctrl-C does, so that whatever was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = arguments()
    try:
        setup = set_up(chosen.python, chosen.rgunicorn and chosen.rgunicorn.resolve(), say)
        options = rounds.Options(chosen.rounds, chosen.seconds, chosen.server_core, chosen.load_core)
        # We ourselves must not disturb the server.
        os.sched_setaffinity(0, {options.load_core})
        results = []
        for workload in (w for w in workloads.ALL if w.key in chosen.workloads):
            keys = [key for key in workload.servers if chosen.servers is None or key in chosen.servers]
            if keys:
                say(workload.title)
                results.append((workload, rounds.compare(workload, keys, setup, options, say)))
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    svg = chosen.write.with_suffix(".svg") if chosen.write else TARGET / "compare.svg"
    svg.write_text(chart.draw(results))
    generated = report.page(results, setup, options, datetime.date.today().isoformat(), svg.name if chosen.write else None)
    if chosen.write:
        report.write(chosen.write, generated)
    else:
        print(generated)
    return 0 if any(not row.absent for _, rows in results for row in rows) else 1
