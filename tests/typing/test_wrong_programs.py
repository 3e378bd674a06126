"""What mypy and pyright must refuse in a user's program, and what they must not: ``wrong/`` marks each line."""

import fcntl
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
WRONG = Path(__file__).parent / "wrong"
PROGRAMS = {path.name: path.read_text().splitlines() for path in sorted(WRONG.glob("[a-z]*.py"))}


def shown(places: Iterable[tuple[str, int]]) -> list[str]:
    """Each line once, with its text, so that it is plain what a type checker lets pass."""
    return [f"{name}:{line}: {PROGRAMS[name][line - 1].strip()}" for name, line in sorted(set(places))]


def marked() -> list[str]:
    return shown(
        (name, number)
        for name, lines in PROGRAMS.items()
        for number, line in enumerate(lines, 1)
        if "  # wrong" in line
    )


def said_by(*command: str | Path) -> str:
    """What a type checker says; it exits with 1 when it refuses something."""
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    return ended.stdout


def test_there_are_wrong_programs() -> None:
    assert {line.partition(":")[0] for line in marked()} == PROGRAMS.keys() != set()


def test_mypy_refuses_each_wrong_line_and_no_other() -> None:
    cache = ROOT / ".mypy_cache" / "wrong"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be at it
        said = said_by(sys.executable, "-m", "mypy", "--cache-dir", cache, *WRONG.glob("*.py"))
    errors = re.findall(r"^\S*?([^/\s]+):(\d+): error: ", said, re.MULTILINE)
    assert shown((name, int(line)) for name, line in errors) == marked()


def test_pyright_refuses_each_wrong_line_and_no_other() -> None:
    basedpyright = Path(sys.executable).parent / "basedpyright"
    said = said_by(
        basedpyright, "--outputjson", "--level", "error", "--pythonpath", sys.executable, "--project", WRONG
    )
    errors = json.loads(said)["generalDiagnostics"]
    lines = [(Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in errors]
    assert shown(lines) == marked()
