"""What it costs to start: parse-topic against the smallest Typer program, and a million topics."""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.measure import Comparison, MeasurementError
from benchmarks.measure import compare as compare_runs

_HELLO = (
    "import typer\napp = typer.Typer()\n@app.command()\ndef main(name: str) -> None:\n    print(name)\napp()\n"
)
_SPLIT = "import sys\nfor line in sys.stdin: sys.stdout.write(line.split('/')[1] + '\\n')\n"
_TOPICS = 1_000_000


def compare() -> Iterator[Comparison]:
    """Yield the comparisons of this module."""
    with tempfile.TemporaryDirectory() as folder:
        hello, split, topics = (Path(folder, name) for name in ("hello.py", "split.py", "topics"))
        hello.write_text(_HELLO)
        split.write_text(_SPLIT)
        topics.write_text("".join(f"devices/d{i % 5000}/telemetry\n" for i in range(_TOPICS)))
        plantops = [sys.executable, "-m", "plantops_cli", "parse-topic"]
        yield compare_runs(
            "parse-topic, one topic",
            "Typer hello-world",
            ours=lambda: cpu_seconds([*plantops, "devices/abc/telemetry"]),
            peers=lambda: cpu_seconds([sys.executable, str(hello), "devices/abc/telemetry"]),
            runs=15,
        )
        yield compare_runs(
            "parse-topic, a million topics",
            "unchecked line.split('/')[1]",
            ours=lambda: cpu_seconds([*plantops, "-", "--field", "device_id"], stdin=topics),
            peers=lambda: cpu_seconds([sys.executable, str(split)], stdin=topics),
            runs=3,
        )


def cpu_seconds(command: Sequence[str], *, stdin: Path | None = None) -> float:
    """Run a command to its end and return the CPU time it took, user and system.

    Raises:
        MeasurementError: it failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (stdin or Path(os.devnull)).open("rb") as source:
        done = subprocess.run(
            command, stdin=source, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
        )
    if done.returncode:
        raise MeasurementError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
