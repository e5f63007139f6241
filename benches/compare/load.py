"""Load: wrk for all workloads but the one in which some requests compute; and the figures of one run."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from processes import Failed, pinned
from setting_up import TARGET
from workloads import Workload

HERE = Path(__file__).parent
WEBSOCKET_LOAD = TARGET / "release/websocket-load"


@dataclass(frozen=True)
class Figures:
    requests: int
    seconds: float
    errors: int
    p50: float
    """Milliseconds, as `p99`."""
    p99: float


def run(workload: Workload, port: int, core: int, seconds: int) -> Figures:
    if workload.beside_busy:
        return quick(port, core, seconds)
    return websocket(workload, port, core, seconds) if workload.websocket else wrk(workload, port, core, seconds)


def wrk(workload: Workload, port: int, core: int, seconds: int) -> Figures:
    output = finish(
        "wrk", "-t", 1, "-c", workload.connections, "-d", f"{seconds}s", "--latency", "-s", HERE / "load.lua",
        f"http://127.0.0.1:{port}{workload.path}", "--", workload.method, len(workload.body), workload.depth,
        "close" if workload.close else "keep", core=core, seconds=seconds,
    )
    return read_figures(output)


def websocket(workload: Workload, port: int, core: int, seconds: int) -> Figures:
    return read_figures(finish(WEBSOCKET_LOAD, port, workload.connections, seconds, core=core, seconds=seconds))


def read_figures(output: str) -> Figures:
    line = next((line for line in output.splitlines() if line.startswith("figures ")), None)
    if line is None:
        raise Failed(f"the load generator gave no figures: {output.strip()[-200:]}")
    requests, duration, errors, p50, p99 = map(int, line.split()[1:])
    return Figures(requests, duration / 1e6, errors, p50 / 1e3, p99 / 1e3)


def quick(port: int, core: int, seconds: int) -> Figures:
    return Figures(**json.loads(finish(sys.executable, HERE / "quick.py", port, seconds, core=core, seconds=seconds)))


def finish(*command, core: int, seconds: int) -> str:
    """Runs it to its end; `subprocess.run` stops it by itself when we are interrupted."""
    try:
        done = subprocess.run(pinned(core, list(command)), capture_output=True, text=True, timeout=seconds + 30)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"the load generator did not end: {error}") from error
    if done.returncode != 0:
        raise Failed(f"the load generator failed: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout
