"""A machine without Mosquitto: a process from which the folders that have it are hidden."""

import subprocess
import sys
from pathlib import Path

from plantops_cli.mosquitto.broker.executable import SYSTEM_FOLDERS

ROOT = Path(__file__).parents[2]


def run_without_mosquitto(script: str, *arguments: str | Path) -> str:
    """Run a script of Python where no mosquitto can be found, and return what it prints; needs root, to mount.

    Args:
        script: the script.
        arguments: its arguments.
    """
    hide = "; ".join(f"! test -d {folder} || mount -t tmpfs none {folder}" for folder in SYSTEM_FOLDERS)
    python = [sys.executable, "-c", script, *map(str, arguments)]
    command = ["unshare", "--mount", "sh", "-ec", f'{hide}; PATH= exec "$@"', "sh", *python]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
