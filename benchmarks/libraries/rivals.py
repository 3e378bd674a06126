"""The programs that are compared, and the environments in which those of other libraries run."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from plantops_cli import MQTTSubscriber

ROOT = Path(__file__).parents[2]
_REQUIREMENTS = Path(__file__).parent / "requirements.txt"
_CONSTRAINTS = ROOT / "constraints.txt"
_SHARED = ("pydantic", "fastapi", "uvicorn")  # in the versions that plantops is tested with
_NEWER = "3.13"  # where a library does not know the Python of this run
_INSTALL_SECONDS = 300
_FIND_VERSION = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"


@dataclass(frozen=True, slots=True)
class Program:
    """A listener to be measured.

    Attributes:
        name: what it is called in the tables.
        command: how it is started.
        concurrency: messages in hand at once where this one differs from the others, or None.
    """

    name: str
    command: tuple[str, ...]
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Rival:
    """A library and the program that uses it.

    Attributes:
        distribution: its name in the requirements.
        module: the program.
        name: what it is called, if not as the distribution.
    """

    distribution: str
    module: str
    name: str = ""


BY_HAND, TYPED = "plantops, model by hand", "plantops, typed"

_RIVALS = (
    Rival("gmqtt", "with_gmqtt"),
    Rival("mqttium", "with_mqttium", "MQTTium"),
    Rival("zenmqtt", "with_zenmqtt"),
    Rival("fastapi-mqtt", "with_fastapi_mqtt"),
    Rival("aiomqtt", "with_aiomqtt"),
    Rival("zmqtt", "with_zmqtt"),
    Rival("faststream", "with_faststream", "FastStream"),
)


def by_hand() -> Program:
    """plantops with handlers that take a Message."""
    return Program(BY_HAND, _module(sys.executable, "programs.with_plantops"))


def typed() -> Program | None:
    """plantops with typed handlers, or None where it has none."""
    if not hasattr(MQTTSubscriber, "on"):
        return None
    return Program(TYPED, _module(sys.executable, "programs.with_plantops_typed"))


def one_by_one() -> Program | None:
    """plantops with typed handlers, and one message in hand at a time."""
    program = typed()
    return replace(program, name=f"{TYPED}, one by one", concurrency=1) if program else None


def ours() -> Program:
    """plantops as its documentation tells."""
    return typed() or by_hand()


def pinger() -> tuple[str, ...]:
    """The command that asks a web application for pages; the port is to be added."""
    return _module(sys.executable, "pinger")


def raw(version: int, how: str, *, receive_maximum: int = 0) -> Program:
    """The plain socket.

    Args:
        version: 4 for MQTT 3.1.1, or 5.
        how: its last argument: each, batch, or how many in hand at once.
        receive_maximum: of MQTT 5.
    """
    spoken = f"MQTT 5, Receive Maximum {receive_maximum}" if version == 5 else "MQTT 3.1.1"
    words = {"each": "PUBACK each", "batch": "PUBACK by the recv"}.get(how, f"{how} in hand")
    name = f"plain socket, {spoken}, {words}"
    return Program(name, (*_module(sys.executable, "raw"), str(version), str(receive_maximum), how))


@cache
def others() -> tuple[list[Program], list[str]]:
    """The programs of the other libraries, and why those are missing that cannot be had."""
    print(f"the other libraries are installed in {_cache()}")  # and not in the page, which others read
    found, missing = list[Program](), list[str]()
    for rival in _RIVALS:
        result = _find(rival)
        if isinstance(result, Program):
            found.append(result)
        else:
            missing.append(result)
    return found, missing


def _module(python: str, name: str) -> tuple[str, ...]:
    return (python, "-m", f"benchmarks.libraries.{name}")


def _find(rival: Rival) -> Program | str:
    reasons = list[str]()
    for python in (sys.executable, *_newer()):
        venv = _Venv(python)
        why = venv.install(rival.distribution)
        if not why:
            remark = "" if python == sys.executable else f", on Python {_NEWER}"
            name = f"{rival.name or rival.distribution} {venv.version(rival.distribution)}{remark}"
            return Program(name, _module(str(venv.python), f"programs.{rival.module}"))
        reasons.append(why)
    return f"{rival.name or rival.distribution}: not measured: {reasons[-1]}"


def _newer() -> Iterator[str]:
    done = subprocess.run([ROOT / ".ci" / "python", _NEWER], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        yield done.stdout.strip()


def _cache() -> Path:
    """A folder outside of the repository that is kept from run to run."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    wanted = _REQUIREMENTS.read_bytes() + _CONSTRAINTS.read_bytes()
    return home / "plantops-benchmarks" / hashlib.sha256(wanted).hexdigest()[:12]


class _Venv:
    """An environment of one Python, to be filled library by library, so that one that fails spoils no other."""

    def __init__(self, python: str) -> None:
        name = hashlib.sha256(os.fsencode(python)).hexdigest()[:8]
        self._base = python
        self._folder = _cache() / name
        self.python = self._folder / "bin" / "python"

    def install(self, distribution: str) -> str | None:
        """Install it, if it is not there; return why that failed, or None."""
        if self.version(distribution):
            return None
        try:
            if not self.python.exists():
                _run([self._base, "-m", "venv", "--clear", str(self._folder)])
                self._add(*_SHARED)
            self._add(*_requirements(distribution))
        except subprocess.CalledProcessError as error:
            return _reason(error.stderr)
        except (OSError, subprocess.TimeoutExpired) as error:
            return error.__class__.__name__
        return None

    def version(self, distribution: str) -> str | None:
        """The version that is there, or None."""
        try:
            return _run([str(self.python), "-c", _FIND_VERSION, distribution]).strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    def _add(self, *requirements: str) -> None:
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if shutil.which("uv"):
            pip = ["uv", "pip", "install", "--quiet", "--python", str(self.python)]
        _run([*pip, "--constraint", str(_CONSTRAINTS), *requirements])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_INSTALL_SECONDS)
    return done.stdout


def _requirements(distribution: str) -> list[str]:
    lines = _REQUIREMENTS.read_text().splitlines()
    return [line for line in lines if re.match(rf"{re.escape(distribution)}\b(?!-)", line)]


def _reason(said: str) -> str:
    errors = [line for line in said.splitlines() if line.startswith(("ERROR:", "error:"))]
    return (errors or said.strip().splitlines() or ["no reason given"])[-1]
