"""Writing into a file that cannot be replaced."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plantops_cli.errors import BrokerFileBusyError, BrokerFileError
from plantops_cli.mosquitto.files.in_place import opened_in_place, overwrite, read_whole, sort_out_backups

ROOT = Path(__file__).parents[3]
OLD = b"# the gardeners\nalice:1\nbob:2\n"
NEW = b"# the gardeners\nalice:1\nbob:2\ncarol:3\n"
# every write beyond so many bytes fails, as on a full disk
LIMITED = """
import resource, signal, sys
from pathlib import Path
from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.files.in_place import opened_in_place, overwrite, read_whole
path, new, limit = Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with opened_in_place(path, lock_timeout_seconds=0) as file:
    old = read_whole(file)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        overwrite(file, path, new, old=old)
    except (BrokerFileError, OSError) as exc:
        print(type(exc).__name__, exc)
"""

lines = st.lists(st.sampled_from([b"alice:1", b"bob:22", b"", b"# c"]), max_size=6).map(b"\n".join)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "passwd"
    path.write_bytes(OLD)
    return path


def write(path: Path, new: bytes) -> None:
    with opened_in_place(path, lock_timeout_seconds=0) as file:
        overwrite(file, path, new, old=read_whole(file))


def beside(path: Path) -> list[Path]:
    return [item for item in path.parent.iterdir() if item != path]


def leave_backup(path: Path, *, old: bytes, new: bytes) -> Path:
    """What a run leaves that is killed in the middle: found by its name, which tells what it was to write."""
    before = set(path.parent.iterdir())
    script = (
        "import os, sys\nfrom pathlib import Path\n"
        "from plantops_cli.mosquitto.files.in_place import _make_backup\n"
        "_make_backup(Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), bytes.fromhex(sys.argv[3]))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", script, str(path), old.hex(), new.hex()]
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=60).returncode == -9
    (backup,) = set(path.parent.iterdir()) - before
    return backup


@pytest.mark.parametrize(
    "new",
    [NEW, b"alice:1\n", OLD, b"", b"zoe:9\n" + OLD, OLD.replace(b"alice:1", b"alice:9"), OLD.rstrip()],
    ids=["longer", "shorter", "the same", "empty", "a line before", "a digit", "no last line feed"],
)
def test_the_same_file_holds_the_new_content_and_nothing_is_left_beside_it(path: Path, new: bytes) -> None:
    inode = path.stat().st_ino
    write(path, new)
    assert path.read_bytes() == new
    assert path.stat().st_ino == inode
    assert beside(path) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines, lines)
def test_any_content_becomes_any_other(path: Path, old: bytes, new: bytes) -> None:
    path.write_bytes(old)
    write(path, new)
    assert path.read_bytes() == new


def test_one_run_at_a_time_has_the_file(path: Path) -> None:
    with opened_in_place(path, lock_timeout_seconds=0), pytest.raises(BrokerFileBusyError, match="locked by"):
        write(path, NEW)
    write(path, NEW)
    assert path.read_bytes() == NEW


def test_what_is_no_file_is_refused(path: Path) -> None:
    os.mkfifo(path.with_name("fifo"))
    with pytest.raises(BrokerFileError, match="not a regular file"):
        write(path.with_name("fifo"), NEW)
    path.with_name("link").symlink_to(path)
    with pytest.raises(OSError, match="link"):
        write(path.with_name("link"), NEW)


@pytest.mark.parametrize(
    "new",
    [OLD * 100 + NEW, b"zoe:9\n" * 100 + OLD * 100],
    ids=["added at the end", "added before"],
)
def test_a_write_that_fails_leaves_the_old_content(path: Path, new: bytes) -> None:
    path.write_bytes(OLD * 100)
    command = [sys.executable, "-c", LIMITED, str(path), new.hex(), str(len(OLD) * 100 + 10)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "OSError [Errno 27] File too large\n", done.stderr
    assert path.read_bytes() == OLD * 100
    assert beside(path) == []


def test_a_file_of_several_megabytes_is_read_whole(path: Path) -> None:
    path.write_bytes(OLD * 100_000)
    with path.open("rb") as file:
        assert read_whole(file.fileno()) == OLD * 100_000


def test_without_a_backup_there_is_nothing_to_sort_out(path: Path) -> None:
    path.with_name(".passwd.x.backup").write_bytes(b"somebody else's")
    assert sort_out_backups(path, OLD) == ()
    assert [item.name for item in beside(path)] == [".passwd.x.backup"]


@pytest.mark.parametrize("content", [OLD, OLD + b"\n\n", NEW, OLD + b"car"])
def test_a_backup_of_what_the_file_holds_or_was_to_hold_is_removed(path: Path, content: bytes) -> None:
    backup = leave_backup(path, old=OLD, new=NEW)
    assert sort_out_backups(path, content) == ()
    assert not backup.exists()


def test_a_backup_of_what_is_lost_stays_and_is_told(path: Path) -> None:
    backup = leave_backup(path, old=OLD, new=NEW)
    (notice,) = sort_out_backups(path, b"a mixture of both\n")
    assert str(backup) in notice
    assert "compare them" in notice
    assert backup.read_bytes() == OLD
    assert backup.stat().st_mode & 0o777 == 0o600
