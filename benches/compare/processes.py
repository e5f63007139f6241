"""A server's processes: started on a core of their own, measured as a tree, and stopped by their own ids, come what may."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A server that doesn't start, or answers wrongly: its row says so, the comparison goes on."""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def pinned(core: int, command: list) -> list[str]:
    return ["taskset", "-c", str(core), *map(str, command)]


def fields(pid: int) -> list[str]:
    """`/proc/PID/stat` from the state on (the name before it may hold anything)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class Tree:
    """A process and all that descend from it, in a session of their own: so they are found, and Ctrl-C reaches us alone."""

    def __init__(self, command: list[str], cwd: Path, env: dict[str, str]):
        self.output = cwd / "output"
        with self.output.open("wb") as output:
            self.root = subprocess.Popen(
                command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def __enter__(self) -> "Tree":
        return self

    def __exit__(self, *_) -> None:
        try:
            if self.root.poll() is None:
                self.root.terminate()
                self.root.wait(5)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # It, or workers that have outlived it.
            for pid in self.pids():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.root.wait()

    def pids(self) -> list[int]:
        """All of the root's session: its children stay in it even when their parent is gone."""
        found = []
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and int(fields(int(entry))[3]) == self.root.pid:
                    found.append(int(entry))
            except (OSError, IndexError):
                continue
        return found

    def cpu(self) -> float:
        """Seconds of user and system time so far; a process that has been waited for counts with its parent's."""
        ticks = 0
        for pid in self.pids():
            try:
                ticks += sum(map(int, fields(pid)[11:15]))
            except OSError:
                continue
        return ticks / TICKS

    def pss(self) -> float:
        """Memory in MB: proportional set size, so that what is shared counts once."""
        kb = 0
        for pid in self.pids():
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            kb += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        return kb / 1000

    def wait_until_it_listens(self, port: int, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.root.poll() is not None:
                raise Failed(f"ended at start-up: {self.last_words()}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise Failed(f"did not listen within {seconds:.0f} s: {self.last_words()}")

    def last_words(self) -> str:
        lines = [line for line in self.output.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()]
        return (errors or lines or ["it said nothing"])[-1].strip()
