"""What a new password costs in a password file of 1,000 and of 100,000 users, against mosquitto_passwd."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from benchmarks.measure import Comparison
from benchmarks.measure import compare as compare_runs
from benchmarks.startup import cpu_seconds
from plantops_cli.mosquitto.text.hashing import hash_password

_SIZES = (1_000, 100_000)
_RUNS = 9
_ENTRY = hash_password(b"one for all", iterations=1_000)


def compare() -> Iterator[Comparison]:
    """Yield the comparisons of this module."""
    with tempfile.TemporaryDirectory() as folder:
        files = {size: _password_file(Path(folder, str(size)), size) for size in (*_SIZES, 2 * _SIZES[-1])}
        for size in _SIZES:
            yield compare_runs(
                f"provision-user, {size:,} users",
                "mosquitto_passwd -b",
                ours=_plantops(files[size]),
                peers=_mosquitto_passwd(files[size]),
                runs=_RUNS,
            )
        yield compare_runs(
            f"provision-user, {2 * _SIZES[-1]:,} users",
            f"provision-user, {_SIZES[-1]:,} users",
            ours=_plantops(files[2 * _SIZES[-1]]),
            peers=_plantops(files[_SIZES[-1]]),
            runs=_RUNS,
        )
        yield compare_runs(
            f"provision-user, {_SIZES[0]:,} users",
            "python -c 'import typer'",
            ours=_plantops(files[_SIZES[0]]),
            peers=lambda: cpu_seconds([sys.executable, "-c", "import typer"]),
            runs=_RUNS,
        )


def _password_file(path: Path, size: int) -> Path:
    path.write_text("".join(f"user{number}:{_ENTRY}\n" for number in range(size)))
    return path


def _plantops(path: Path) -> Callable[[], float]:
    passwords = count()
    command = [sys.executable, "-m", "plantops_cli", "provision-user", "--file", str(path)]

    def run() -> float:
        # another password each time, so that there is something to write
        os.environ["MQTT_BACKEND_PASSWORD"] = f"password {next(passwords)}"
        return cpu_seconds(command)

    return run


def _mosquitto_passwd(path: Path) -> Callable[[], float]:
    tool = shutil.which("mosquitto_passwd")
    assert tool, "mosquitto_passwd is not installed"
    passwords = count()
    # -I 10000: the iterations that plantops uses
    return lambda: cpu_seconds([tool, "-I", "10000", "-b", str(path), "their_backend", str(next(passwords))])
