"""A folder that others may write in, what they may plant there, and programs that run as somebody else."""

import os
import shutil
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.scripts import run_script

STRANGER, ORDINARY = 54_321, 54_322

_DROP_RIGHTS = """
import os, sys
from pathlib import Path
from plantops_cli.errors import PlantopsError
from plantops_cli.outputs.file import LineFile
from tests.support.samples import lines

uid, path = int(sys.argv[1]), Path(sys.argv[2])
if uid != os.geteuid():
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
"""


@contextmanager
def shared_folder(mode: int) -> Iterator[Path]:
    """A folder that everybody reaches, unlike those of pytest.

    Args:
        mode: its rights.
    """
    folder = Path(tempfile.mkdtemp(dir="/tmp")).resolve()
    try:
        folder.chmod(mode)
        yield folder
    finally:
        shutil.rmtree(folder)


def run_as(uid: int, script: str, path: Path, *, is_fresh: bool = False) -> str:
    """Run a script with LineFile, lines and ``path``, and return what it prints.

    Args:
        uid: the user to be; only root can be another one.
        script: what to do.
        path: a file, for the script.
        is_fresh: whether it is to have an interpreter of its own.
    """
    if uid != os.geteuid() != 0:
        pytest.skip("only root can act as two users")
    # somebody else cannot write what coverage wants to keep in our folder
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    code = _DROP_RIGHTS + textwrap.dedent(script)
    done = run_script(code, str(uid), path, env=inherited, is_fresh=is_fresh)
    assert (done.code, done.stderr) == (0, "")
    return done.stdout.decode()


def given_to(uid: int, path: Path) -> None:
    """Make somebody the owner of a file or link; only root can give away what is its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as two users")
    os.chown(path, uid, uid, follow_symlinks=False)


def link(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def dangling_link(path: Path, secret: Path) -> None:
    path.symlink_to(secret.with_name("not-there"))


def hard_link(path: Path, secret: Path) -> None:
    path.hardlink_to(secret)


def fifo(path: Path, secret: Path) -> None:  # as all of them
    os.mkfifo(path, 0o666)


def folder(path: Path, secret: Path) -> None:  # as all of them
    path.mkdir()


PLANTS: tuple[Callable[[Path, Path], None], ...] = (link, dangling_link, hard_link, fifo, folder)
