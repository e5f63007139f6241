"""What the comparison needs: the peers from PyPI in a virtual environment, rgunicorn in release mode, and the versions."""

import json
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
# gunicorn's gevent worker imports packaging, which gunicorn doesn't always bring.
PEERS = ("flask", "django", "gunicorn", "packaging", "gevent", "tornado", "granian", "uwsgi", "bjoern", "fastwsgi", "uvicorn[standard]", "uvicorn-worker", "fastapi", "psycopg2-binary")
HELP = {
    "bjoern": "it needs libev and its headers (Debian: `apt install libev-dev gcc`)",
    "uwsgi": "it needs a C compiler (Debian: `apt install gcc`)",
    "fastwsgi": "it needs a C compiler (Debian: `apt install gcc`)",
}


@dataclass
class Setup:
    bin: Path
    rgunicorn: Path
    nginx: str | None
    versions: dict[str, str]
    missing: dict[str, str] = field(default_factory=dict)
    """Packages, and `nginx`, that can't be had here, and why."""


def set_up(python: str, rgunicorn: Path | None, say) -> Setup:
    for tool, package in (("wrk", "wrk"), ("taskset", "util-linux")):
        if not shutil.which(tool):
            raise SystemExit(f"{tool} is not on the PATH (Debian: apt install {package})")
    missing = {}
    venv = TARGET / "compare-venv"
    if not same_python(venv, python):
        say(f"making {venv}")
        subprocess.run([python, "-m", "venv", "--clear", venv], check=True)
    versions = installed(venv)
    for peer in PEERS:
        name = peer.partition("[")[0]
        if name not in versions:
            say(f"installing {name}")
            why = install(venv, peer)
            if why:
                missing[name] = f"could not be installed: {HELP.get(name, why)}"
                say(f"{name} {missing[name]}\n  pip's last words: {why}")
    if rgunicorn is None:
        say("building rgunicorn")
        rgunicorn = build(python)
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        missing["nginx"] = "is not installed (Debian: `apt install nginx`)"
    return Setup(venv / "bin", rgunicorn, nginx, all_versions(venv, python, rgunicorn, nginx), missing)


def version_of(python: Path | str) -> str | None:
    try:
        return first_line([python, "-c", "import sys; print(sys.version, sys.base_prefix)"])
    except (OSError, subprocess.CalledProcessError):
        return None


def same_python(venv: Path, python: str) -> bool:
    return version_of(venv / "bin/python") == version_of(python)


def install(venv: Path, package: str) -> str | None:
    """Pip's last words if it failed. One package at a time: what fails must not take the others with it."""
    pip = [venv / "bin/pip", "install", "--quiet", "--disable-pip-version-check", package]
    done = subprocess.run(pip, capture_output=True, text=True)
    errors = [line.strip() for line in done.stderr.splitlines() if "error:" in line.lower()]
    return None if done.returncode == 0 else (errors or ["pip failed"])[0]


def installed(venv: Path) -> dict[str, str]:
    pip = [venv / "bin/pip", "list", "--disable-pip-version-check", "--format=json"]
    listed = json.loads(subprocess.run(pip, capture_output=True, text=True, check=True).stdout)
    return {package["name"].lower(): package["version"] for package in listed}


def build(python: str) -> Path:
    command = ["cargo", "build", "--release", "--locked", "-p", "rgunicorn-cli", "-p", "rgunicorn-benches"]
    env = os.environ | {"PYO3_PYTHON": python, "CARGO_TARGET_DIR": str(TARGET)}
    if subprocess.run(command, cwd=ROOT, env=env).returncode != 0:
        raise SystemExit("rgunicorn could not be built")
    return TARGET / "release/rgunicorn"


def first_line(command: list) -> str:
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return next(iter(done.stdout.splitlines()), "").strip()


def number(text: str) -> str:
    found = re.search(r"\d+(\.\d+)+", text)
    return found[0] if found else text


def all_versions(venv: Path, python: str, rgunicorn: Path, nginx: str | None) -> dict[str, str]:
    packages = installed(venv)
    commit = first_line(["git", "-C", str(ROOT), "describe", "--always", "--dirty"])
    versions = {
        "rgunicorn": f"{number(first_line([rgunicorn, '--version']))} ({commit})",
        "CPython": number(version_of(python) or "?"),
        **{name: packages[name] for name in (peer.partition("[")[0] for peer in PEERS) if name in packages},
    }
    if nginx:
        versions["nginx"] = number(first_line([nginx, "-v"]))
    versions["wrk"] = number(first_line(["wrk", "-v"]))
    return versions


def machine() -> str:
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores of {model}, Linux {platform.release()}"
