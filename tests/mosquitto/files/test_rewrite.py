"""Changing a file of Mosquitto's: whole or not at all, whatever happens meanwhile."""

import fcntl
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantops_cli.errors import BrokerFileBusyError, BrokerFileChangedError, BrokerFileError
from plantops_cli.mosquitto.files.rewrite import Edit, Rewritten, restore, rewrite
from tests.support.strangers import STRANGER, given_to, shared_folder

OLD = b"# the gardeners\nalice:1\nbob:2\n"
NEW = b"# the gardeners\nalice:1\nbob:2\ncarol:3\n"
SHORTER = b"# the gardeners\nbob:2\n"
NOBODY = 65_534

PRELUDE = """
import errno, itertools, os, random, resource, signal, sys, time
from pathlib import Path
from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.files.rewrite import restore, rewrite
path = Path(sys.argv[1])
def attempt(change, **settings):
    try:
        outcome = rewrite(path, change, **settings)
        print("written" if outcome.was_written else "unchanged", end=" ")
        print("in place" if outcome.is_in_place else "by rename")
        print(*outcome.notices, sep="\\n")
    except BrokerFileError as exc:
        print("refused:", exc, "|", exc.hint)
"""
AS_NOBODY = """
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
"""
APPEND_A_LINE = 'attempt(lambda content: content + b"carol:3\\n")'
# each child rewrites for ever what its parent knows by heart, and is killed at a moment of its own
KILL_MANY = """
states = [bytes.fromhex(state) for state in sys.argv[3:]]
random.seed(0)
bad = 0
path.write_bytes(states[0])
for _ in range(int(sys.argv[2])):
    child = os.fork()
    if not child:
        for content in itertools.cycle(states):
            rewrite(path, lambda _: content)
    time.sleep(random.uniform(0.0005, 0.012))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    bad += path.read_bytes().rstrip(b"\\n") not in [state.rstrip(b"\\n") for state in states]
print(bad, "damaged")
"""

needs_attributes = pytest.mark.skipif(sys.platform != "linux", reason="only there Python has extended attributes")
needs_leases = pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and give a file away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    path = folder / "passwd"
    path.write_bytes(OLD)
    path.chmod(0o640)
    return path


@pytest.fixture
def open_folder() -> Iterator[Path]:
    # tmp_path is closed to other users
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def to(content: bytes | None) -> Edit:
    return lambda _: content


def run(script: str, *arguments: str | Path, mount: str = "") -> str:
    """Run a script in a process of its own; ``mount`` is shell that mounts things that only it sees."""
    command = [sys.executable, "-c", PRELUDE + script, *map(str, arguments)]
    if mount:
        command = ["unshare", "-m", "sh", "-ec", f'{mount}\nexec "$@"', "sh", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bound(path: Path, *options: str) -> str:
    """Shell that mounts the file at itself, as docker does with a single file."""
    return f"mount --bind '{path}' '{path}'" + "".join(f"\nmount -o {option} '{path}'" for option in options)


def leftovers(path: Path) -> list[str]:
    return sorted(
        item.name for item in path.parent.iterdir() if item.name not in (path.name, f".{path.name}.lock")
    )


def identity(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def test_new_content_takes_the_place_of_the_old(path: Path) -> None:
    assert rewrite(path, to(NEW)) == Rewritten(path, OLD, NEW, was_written=True, is_in_place=False, notices=())
    assert path.read_bytes() == NEW
    assert leftovers(path) == []


@pytest.mark.parametrize("content", [None, OLD])
def test_where_there_is_nothing_to_change_nothing_is_written(path: Path, content: bytes | None) -> None:
    before = identity(path)
    outcome = rewrite(path, to(content))
    assert (outcome.was_written, outcome.old, outcome.new) == (False, OLD, OLD)
    assert identity(path) == before
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_file_stays_missing_when_the_change_is_none(path: Path) -> None:
    path.unlink()
    assert rewrite(path, to(None)) == Rewritten(path, None, b"", was_written=False, is_in_place=False, notices=())
    assert list(path.parent.iterdir()) == []


def test_a_missing_file_is_made_for_its_owner_alone(path: Path) -> None:
    path.unlink()
    outcome = rewrite(path, to(NEW))
    assert outcome.is_new_file
    assert path.read_bytes() == NEW
    assert (path.stat().st_mode & 0o7777, path.stat().st_nlink) == (0o600, 1)
    assert leftovers(path) == []


def test_a_file_that_appears_meanwhile_is_not_overwritten(path: Path) -> None:
    path.unlink()
    seen: list[bytes | None] = []

    def change(content: bytes | None) -> bytes:
        seen.append(content)
        if len(seen) == 2:  # under the lock
            path.write_bytes(OLD)
        return (content or b"") + b"carol:3\n"

    rewrite(path, change)
    assert seen == [None, None, OLD]
    assert path.read_bytes() == NEW


@needs_root
@pytest.mark.parametrize("owner", [(12_345, 23_456), None])
def test_a_new_file_and_its_lock_belong_to_whom_the_caller_names(
    path: Path, owner: tuple[int, int] | None
) -> None:
    path.unlink()
    rewrite(path, to(NEW), new_file_owner=owner)
    owners = {(item.stat().st_uid, item.stat().st_gid) for item in path.parent.iterdir()}
    assert owners == {owner or (0, 0)}


@needs_root
def test_one_who_is_not_root_is_told_that_a_new_file_stays_theirs(open_folder: Path) -> None:
    path = open_folder / "passwd"
    script = AS_NOBODY + 'attempt(lambda _: b"a:1\\n", new_file_owner=(12345, 23456))'
    assert "could not be given to uid 12345" in run(script, path)
    assert path.stat().st_uid == NOBODY


@needs_root
def test_the_owner_can_lock_the_file_after_root_did(open_folder: Path) -> None:
    path = open_folder / "passwd"
    path.write_bytes(OLD)
    os.chown(path, NOBODY, NOBODY)
    rewrite(path, to(SHORTER))
    assert "written" in run(AS_NOBODY + APPEND_A_LINE, path)
    assert path.read_bytes() == SHORTER + b"carol:3\n"


@needs_root
def test_a_lock_file_that_was_there_is_never_given_away(path: Path) -> None:
    secret = path.with_name("secret")
    secret.touch()
    path.with_name(".passwd.lock").hardlink_to(secret)
    os.chown(path, NOBODY, NOBODY)
    rewrite(path, to(NEW))
    assert secret.stat().st_uid == 0


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660, 0o444, 0o644])
def test_the_mode_is_kept(path: Path, mode: int) -> None:
    path.chmod(mode)
    rewrite(path, to(NEW))
    assert path.stat().st_mode & 0o7777 == mode


@pytest.mark.parametrize(("mode", "kept"), [(0o666, 0o664), (0o777, 0o664), (0o4750, 0o640), (0o602, 0o600)])
def test_write_for_all_and_execute_are_dropped_and_it_is_said(path: Path, mode: int, kept: int) -> None:
    path.chmod(mode)
    outcome = rewrite(path, to(NEW))
    assert path.stat().st_mode & 0o7777 == kept
    assert any(f"was {mode:04o} and is {kept:04o} now" in notice for notice in outcome.notices)


@pytest.mark.parametrize(
    ("mode", "folder_mode", "told"),
    [
        (0o640, 0o755, None),
        (0o644, 0o755, "can read"),
        (0o640, 0o777, "other users can write to"),
        (0o640, 0o1777, "other users can write to"),
        (0o640, 0o775, "other users can write to"),
    ],
)
@pytest.mark.parametrize("content", [None, NEW])
def test_what_leaves_the_file_open_to_others_is_told(
    path: Path, mode: int, folder_mode: int, told: str | None, content: bytes | None
) -> None:
    path.chmod(mode)
    path.parent.chmod(folder_mode)
    notices = rewrite(path, to(content)).notices
    assert len(notices) == (told is not None)
    assert (told or "") in "".join(notices)


def has_attribute(path: Path, name: str, value: bytes) -> bool:
    return name in os.listxattr(path) and os.getxattr(path, name) == value


@needs_attributes
@pytest.mark.parametrize("name", ["user.note", pytest.param("security.label", marks=needs_root)])
def test_extended_attributes_are_kept(path: Path, name: str) -> None:
    os.setxattr(path, name, b"of the gardeners")
    outcome = rewrite(path, to(NEW))
    assert has_attribute(path, name, b"of the gardeners")
    assert outcome.notices == ()


def access_list(*, user: int, permission: int) -> bytes:
    """The list of a file of mode 0640 that one more user may read (acl(5); linux/posix_acl_xattr.h)."""
    anybody = 0xFFFFFFFF
    entries = [
        (0x01, 6, anybody),
        (0x02, permission, user),
        (0x04, 0, anybody),
        (0x10, 4, anybody),
        (0x20, 0, anybody),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@needs_attributes
def test_the_access_list_is_kept_and_the_mode_with_it(path: Path) -> None:
    granted = access_list(user=12_345, permission=4)
    os.setxattr(path, "system.posix_acl_access", granted)
    mode = path.stat().st_mode
    rewrite(path, to(NEW))
    assert has_attribute(path, "system.posix_acl_access", granted)
    assert path.stat().st_mode == mode


@needs_attributes
def test_the_default_list_of_the_folder_admits_nobody_whom_the_old_file_did_not(path: Path) -> None:
    os.setxattr(path.parent, "system.posix_acl_default", access_list(user=12_345, permission=4))
    rewrite(path, to(NEW))
    assert "system.posix_acl_access" not in os.listxattr(path)
    assert path.stat().st_mode & 0o777 == 0o640


@needs_root
def test_a_label_that_cannot_be_kept_is_a_refusal(open_folder: Path) -> None:
    path = open_folder / "passwd"
    path.write_bytes(OLD)
    os.setxattr(path, "security.label", b"x")
    os.chown(path, NOBODY, NOBODY)
    assert "refused" in (said := run(AS_NOBODY + APPEND_A_LINE, path))
    assert "security.label" in said
    assert path.read_bytes() == OLD
    assert leftovers(path) == []


def test_a_symbolic_link_stays_one_and_a_newer_broker_is_mentioned(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path.name)
    outcome = rewrite(link, to(NEW))
    assert link.is_symlink()
    assert path.read_bytes() == NEW
    assert ["Mosquitto 2.1 refuses" in notice for notice in outcome.notices] == [True]


@pytest.mark.parametrize("mode", [0o777, 0o1777], ids=["open", "sticky"])
@pytest.mark.parametrize("content", [b"", OLD], ids=["an empty file", "a password file"])
def test_a_link_that_a_stranger_has_placed_is_not_followed(path: Path, content: bytes, mode: int) -> None:
    path.write_bytes(content)
    with shared_folder(mode) as folder:
        (folder / "inner").symlink_to(path)
        (folder / "outer").symlink_to("inner")
        given_to(STRANGER, folder / "inner")
        for name in ("inner", "outer"):
            with pytest.raises(BrokerFileError, match="a link of another user's"):
                rewrite(folder / name, to(NEW))
        assert path.read_bytes() == content
        folder.chmod(0o755)
        rewrite(folder / "outer", to(NEW))
        assert path.read_bytes() == NEW


@pytest.mark.parametrize("given", ["passwd", "..data/passwd"])
def test_a_file_of_a_kubernetes_secret_is_refused(tmp_path: Path, given: str) -> None:
    version = tmp_path / "..2026_11_23"
    version.mkdir()
    (version / "passwd").write_bytes(OLD)
    (tmp_path / "..data").symlink_to(version.name)
    (tmp_path / "passwd").symlink_to("..data/passwd")
    with pytest.raises(BrokerFileError, match="Kubernetes"):
        rewrite(tmp_path / given, to(NEW))
    assert (version / "passwd").read_bytes() == OLD


def test_a_link_through_which_a_kubernetes_secret_is_reached_is_refused(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "passwd").write_bytes(OLD)
    (tmp_path / "inner").symlink_to("..data/passwd")
    (tmp_path / "outer").symlink_to("inner")
    with pytest.raises(BrokerFileError, match="Kubernetes"):
        rewrite(tmp_path / "outer", to(NEW))


def test_a_second_hard_link_is_refused_only_when_there_is_something_to_write(path: Path) -> None:
    path.with_name("second").hardlink_to(path)
    assert not rewrite(path, to(None)).was_written
    with pytest.raises(BrokerFileError, match="2 hard links"):
        rewrite(path, to(NEW))
    assert path.read_bytes() == OLD


def test_the_second_link_that_a_killed_run_left_of_its_new_file_is_removed(path: Path) -> None:
    path.with_name(".passwd.abcd_123.tmp").hardlink_to(path)
    assert rewrite(path, to(NEW)).was_written
    assert leftovers(path) == []


def test_temporary_files_of_killed_runs_are_removed_and_no_others(path: Path) -> None:
    path.with_name(".passwd.abcd_123.tmp").write_bytes(OLD)
    path.with_name(".passwd.folder_1.tmp").mkdir()
    path.with_name(".passwd.linked_1.tmp").symlink_to("elsewhere")
    foreign = [
        ".other.abcd_123.tmp",
        ".passwd.tmp",
        "passwd.tmp",
        ".passwd.ABCD_123.tmp",
        ".passwd.x.abcd_123.tmp",
    ]
    for name in foreign:
        path.with_name(name).touch()
    rewrite(path, to(NEW))
    assert leftovers(path) == sorted([*foreign, ".passwd.folder_1.tmp", ".passwd.linked_1.tmp"])


@needs_root
def test_a_strangers_file_that_looks_like_a_temporary_one_is_left_alone(path: Path) -> None:
    stranger = path.with_name(".passwd.abcd_123.tmp")
    stranger.touch()
    os.chown(stranger, 12_345, 12_345)
    rewrite(path, to(NEW))
    assert stranger.exists()


def test_a_refusal_of_the_change_leaves_no_trace(path: Path) -> None:
    def refuse(content: bytes | None) -> bytes:
        raise BrokerFileError("line 2 is no good")

    with pytest.raises(BrokerFileError, match="line 2"):
        rewrite(path, refuse)
    assert list(path.parent.iterdir()) == [path]


def test_a_held_lock_ends_in_an_error_that_names_the_way_to_wait_longer(path: Path) -> None:
    with path.with_name(".passwd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BrokerFileBusyError, match=r"locked .* for 0\.1 s") as refused:
            rewrite(path, to(NEW), lock_timeout_seconds=0.1)
    assert "wait longer for the lock" in (refused.value.hint or "")
    assert path.read_bytes() == OLD


def test_something_else_in_place_of_the_lock_file_is_refused(path: Path) -> None:
    os.mkfifo(path.with_name(".passwd.lock"))
    with pytest.raises(BrokerFileError, match="in the way of the lock file"):
        rewrite(path, to(NEW))


def test_a_lock_file_that_is_a_link_is_not_followed(path: Path) -> None:
    path.with_name(".passwd.lock").symlink_to("elsewhere")
    with pytest.raises(BrokerFileError, match=r"passwd\.lock"):
        rewrite(path, to(NEW))
    assert not path.with_name("elsewhere").exists()


@needs_leases
def test_a_file_that_is_being_written_is_not_read_half(path: Path) -> None:
    emptied = threading.Event()

    def write_anew() -> None:
        with path.open("wb") as file:
            emptied.set()
            time.sleep(0.2)
            file.write(OLD + b"dave:4\n")

    other = threading.Thread(target=write_anew)
    other.start()
    emptied.wait()
    rewrite(path, lambda content: (content or b"") + b"carol:3\n")
    other.join()
    assert path.read_bytes() == OLD + b"dave:4\ncarol:3\n"


@needs_leases
def test_a_file_that_stays_open_for_writing_is_busy(path: Path) -> None:
    with path.open("ab"), pytest.raises(BrokerFileBusyError, match="open for writing"):
        rewrite(path, to(NEW), lock_timeout_seconds=0.1)


@needs_leases
def test_a_line_that_another_program_adds_during_the_update_survives(path: Path) -> None:
    writers: list[threading.Thread] = []

    def add_line() -> None:
        with path.open("ab") as file:
            file.write(b"dave:4\n")

    def change(content: bytes | None) -> bytes:
        if not writers and path.with_name(".passwd.lock").exists():
            writers.append(threading.Thread(target=add_line))
            writers[0].start()
            time.sleep(0.1)
        return (content or b"") + b"carol:3\n"

    rewrite(path, change)
    writers[0].join()
    assert path.read_bytes() == OLD + b"dave:4\ncarol:3\n"


def test_a_file_that_another_program_replaces_during_the_update_is_read_again(path: Path) -> None:
    calls = 0

    def change(content: bytes | None) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 2:  # under the lock
            other = path.with_name("other")
            other.write_bytes(SHORTER)
            other.replace(path)
        return (content or b"") + b"carol:3\n"

    rewrite(path, change)
    assert path.read_bytes() == SHORTER + b"carol:3\n"


def test_a_file_that_never_stands_still_is_not_replaced(path: Path) -> None:
    def change(content: bytes | None) -> bytes:
        os.utime(path)
        time.sleep(0.01)  # longer than the clock of a file system takes to tick
        return NEW

    with pytest.raises(BrokerFileChangedError, match="10 times"):
        rewrite(path, change)
    assert path.read_bytes() == OLD
    assert leftovers(path) == []


def test_a_dry_run_tells_the_outcome_and_makes_not_even_a_lock_file(path: Path) -> None:
    before = identity(path)
    outcome = rewrite(path, to(NEW), dry_run=True)
    assert outcome == Rewritten(path, OLD, NEW, was_written=True, is_in_place=False, notices=())
    assert identity(path) == before
    assert list(path.parent.iterdir()) == [path]
    path.unlink()
    assert rewrite(path, to(NEW), dry_run=True).is_new_file
    assert list(path.parent.iterdir()) == []


def test_a_dry_run_refuses_what_a_run_would_refuse(path: Path) -> None:
    path.with_name("second").hardlink_to(path)
    with pytest.raises(BrokerFileError, match="2 hard links"):
        rewrite(path, to(NEW), dry_run=True)
    with pytest.raises(BrokerFileError, match="No such file"):
        rewrite(path.parent / "none" / "passwd", to(NEW), dry_run=True)


@needs_root
@pytest.mark.parametrize("settings", ["", ", dry_run=True"])
def test_a_folder_in_which_nothing_can_be_written_is_refused(open_folder: Path, settings: str) -> None:
    path = open_folder / "passwd"
    path.write_bytes(OLD)
    os.chown(path, NOBODY, NOBODY)
    open_folder.chmod(0o755)
    script = AS_NOBODY + f'attempt(lambda content: content + b"carol:3\\n"{settings})'
    assert "nothing can be written in its folder" in run(script, path)
    assert "unchanged" in run(AS_NOBODY + "attempt(lambda content: content)", path)


@needs_root
@pytest.mark.parametrize("settings", ["", ", dry_run=True"])
def test_a_file_whose_owner_would_change_is_refused(open_folder: Path, settings: str) -> None:
    path = open_folder / "passwd"
    path.write_bytes(OLD)
    script = AS_NOBODY + f'attempt(lambda content: content + b"carol:3\\n"{settings})'
    assert "belongs to uid 0" in run(script, path)
    assert path.read_bytes() == OLD
    assert leftovers(path) == []


def test_what_was_replaced_can_be_restored(path: Path) -> None:
    assert restore(rewrite(path, to(NEW)))
    assert path.read_bytes() == OLD
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_was_made_is_removed_again(path: Path) -> None:
    path.unlink()
    assert restore(rewrite(path, to(NEW)))
    assert not path.exists()


@pytest.mark.parametrize("is_new", [True, False])
def test_what_somebody_changed_meanwhile_is_not_undone(path: Path, is_new: bool) -> None:
    if is_new:
        path.unlink()
    outcome = rewrite(path, to(NEW))
    path.write_bytes(SHORTER)
    assert not restore(outcome)
    assert path.read_bytes() == SHORTER
    path.unlink()
    assert not restore(outcome)


def test_to_undo_nothing_is_to_do_nothing(path: Path) -> None:
    before = identity(path)
    assert restore(rewrite(path, to(None)))
    assert identity(path) == before


def test_no_outcome_shows_what_the_file_holds(path: Path) -> None:
    assert "alice" not in repr(rewrite(path, to(NEW)))


def test_a_limit_on_the_size_of_files_leaves_the_old_one(path: Path) -> None:
    before = identity(path)
    said = run("resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n" + APPEND_A_LINE, path)
    assert "refused" in said
    assert "File too large" in said
    assert identity(path) == before
    assert leftovers(path) == []


# a page for the folder's own needs, then as much of the file as fits
TINY_DISK = "mount -t tmpfs -o size=16k none '{folder}'"
FILL = """
path.write_bytes(b"alice:1\\n" * 700)
old = path.read_bytes()
attempt(lambda content: content + b"carol:3\\n" * 2500)
print(path.read_bytes() == old, sorted(os.listdir(path.parent)))
"""


@needs_root
def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    said = run(FILL, tmp_path / "passwd", mount=TINY_DISK.format(folder=tmp_path))
    assert "No space left" in said
    assert "the disk is full" in said
    assert said.endswith("True ['.passwd.lock', 'passwd']\n")


@needs_root
@pytest.mark.parametrize(
    "change",
    ['content + b"carol:3\\n" * 2500', 'b"carol:3\\n" * 2500 + content'],
    ids=["added at the end", "changed in the middle"],
)
def test_a_full_disk_leaves_a_file_that_is_written_in_place_as_it_was(tmp_path: Path, change: str) -> None:
    disk, folder = tmp_path / "disk", tmp_path / "folder"
    disk.mkdir()
    folder.mkdir()
    (folder / "passwd").touch()
    mount = (
        TINY_DISK.format(folder=disk) + f"\ntouch '{disk}/passwd'\nmount --bind '{disk}/passwd' '{folder}/passwd'"
    )
    script = FILL.replace('content + b"carol:3\\n" * 2500', change)
    said = run(script, folder / "passwd", mount=mount)
    assert "No space left" in said
    assert said.endswith("True ['passwd']\n")


def test_two_hundred_runs_that_are_killed_leave_the_old_file_or_the_new_one(path: Path) -> None:
    states = [OLD * 200, NEW * 200, SHORTER]
    assert run(KILL_MANY, path, "200", *(state.hex() for state in states)) == "0 damaged\n"
    rewrite(path, to(b"# clean\n"))
    assert leftovers(path) == []


@needs_root
def test_runs_that_are_killed_while_they_write_in_place_leave_at_most_blank_lines(path: Path) -> None:
    states = [OLD, NEW, SHORTER, b"zoe:9\n" + OLD]
    said = run(KILL_MANY, path, "100", *(state.hex() for state in states), mount=bound(path))
    assert said == "0 damaged\n"
    run("attempt(lambda _: b'# clean\\n')", path, mount=bound(path))
    assert path.read_bytes() == b"# clean\n"
    assert [name for name in leftovers(path) if name.endswith(".tmp")] == []


@needs_root
@pytest.mark.parametrize(
    "new",
    [
        NEW,
        SHORTER,
        OLD.replace(b"alice:1", b"alice:9"),
        b"zoe:9\n" + OLD,
        OLD.replace(b"alice:1", b"alice:12345"),
        OLD.replace(b"alice", b"al"),
        OLD.removesuffix(b"\n"),
        b"\n",
        b"",
    ],
)
def test_a_file_that_is_mounted_by_itself_is_written_in_place(path: Path, new: bytes) -> None:
    inode = path.stat().st_ino
    said = run("attempt(lambda _: bytes.fromhex(sys.argv[2]))", path, new.hex(), mount=bound(path))
    assert said.startswith("written in place\n")
    assert path.read_bytes() == new
    assert path.stat().st_ino == inode
    assert leftovers(path) == []


@needs_root
def test_a_last_line_without_its_end_is_completed_in_place(path: Path) -> None:
    path.write_bytes(OLD.removesuffix(b"\n"))
    run('attempt(lambda content: content + b"\\ncarol:3\\n")', path, mount=bound(path))
    assert path.read_bytes() == NEW


@needs_root
@pytest.mark.parametrize("settings", ["", ", dry_run=True"])
def test_a_file_that_is_mounted_read_only_is_refused(path: Path, settings: str) -> None:
    script = f'attempt(lambda content: content + b"carol:3\\n"{settings})'
    said = run(script, path, mount=bound(path, "remount,ro,bind"))
    assert "Read-only file system" in said
    assert "mounted read-only" in said
    assert path.read_bytes() == OLD


@needs_root
def test_a_mounted_file_in_a_read_only_folder_is_written_in_place(path: Path, tmp_path: Path) -> None:
    folder = path.parent
    source = tmp_path / "source"
    source.write_bytes(OLD)
    read_only = f"mount --bind '{folder}' '{folder}'\nmount -o remount,ro,bind '{folder}'"
    mount = f"{read_only}\nmount --bind '{source}' '{path}'"
    before = set(Path(tempfile.gettempdir()).glob("plantops-*"))
    assert run(APPEND_A_LINE, path, mount=mount).startswith("written in place\n")
    assert source.read_bytes() == NEW
    assert set(Path(tempfile.gettempdir()).glob("plantops-*")) <= before


@needs_root
def test_a_mount_that_proc_does_not_tell_of_is_found_out_by_trying(path: Path) -> None:
    said = run(APPEND_A_LINE, path, mount=bound(path) + "\nmount -t tmpfs none /proc")
    assert said.startswith("written in place\n")
    assert path.read_bytes() == NEW


@needs_root
def test_a_mounted_file_with_a_blank_in_its_name_is_recognised(path: Path) -> None:
    path = path.rename(path.with_name("pass word"))
    assert run(APPEND_A_LINE, path, mount=bound(path)).startswith("written in place\n")
    assert leftovers(path) == []


@needs_root
def test_what_was_written_in_place_can_be_restored(path: Path) -> None:
    script = 'print(restore(rewrite(path, lambda content: b"zoe:9\\n" + content)))'
    assert run(script, path, mount=bound(path)) == "True\n"
    assert path.read_bytes() == OLD


@needs_root
def test_twenty_runs_in_place_at_once_lose_nothing(path: Path) -> None:
    script = """
for number in range(20):
    if not os.fork():
        rewrite(path, lambda content: content + b"user%d:1\\n" % number)
        os._exit(0)
print({os.wait()[1] for _ in range(20)})
"""
    assert run(script, path, mount=bound(path)) == "{0}\n"
    content = path.read_bytes()
    assert content.startswith(OLD)
    assert sorted(content.removeprefix(OLD).splitlines()) == sorted(b"user%d:1" % number for number in range(20))


@needs_root
@pytest.mark.parametrize(
    ("content", "is_needed"),
    [
        (OLD, False),
        (OLD + b"\n\n", False),
        (NEW, False),
        (OLD + b"car", False),
        (b"zoe:9\nce:1\n" + OLD[11:], True),
    ],
    ids=["not begun", "filled up", "done", "begun to add", "a mixture"],
)
def test_the_backup_of_a_killed_run_stays_only_where_it_may_be_needed(
    path: Path, content: bytes, is_needed: bool
) -> None:
    script = """
from plantops_cli.mosquitto.files.in_place import _make_backup
_make_backup(path, path.read_bytes(), bytes.fromhex(sys.argv[2]))
path.write_bytes(bytes.fromhex(sys.argv[3]))
attempt(lambda content: content + b"dave:4\\n")
"""
    said = run(script, path, NEW.hex(), content.hex(), mount=bound(path))
    assert ("compare them" in said) is is_needed
    assert len(leftovers(path)) == is_needed
    assert path.read_bytes() == content + b"dave:4\n"


@needs_leases
def test_mosquitto_passwd_at_the_same_file_meanwhile_loses_no_line_of_ours(path: Path) -> None:
    tool = shutil.which("mosquitto_passwd")
    assert tool, "mosquitto_passwd is not installed"
    subprocess.run([tool, "-c", "-b", path, "tools_own", "x"], check=True, timeout=10, capture_output=True)
    done = threading.Event()

    def hammer() -> None:
        number = 0
        while not done.is_set():
            number += 1
            subprocess.run(
                [tool, "-b", path, f"tool{number % 5}", "x"], check=False, timeout=60, capture_output=True
            )

    lines = [b"ours%d:$7$x\n" % number for number in range(60)]
    written: list[bytes] = []
    hammering = threading.Thread(target=hammer)
    hammering.start()
    try:
        for line in lines:
            try:
                rewrite(path, lambda content, line=line: (content or b"") + line)  # type: ignore[misc]  # bound early
                written.append(line)
            except (BrokerFileBusyError, BrokerFileChangedError):
                pass
    finally:
        done.set()
        hammering.join()
    content = path.read_bytes()
    assert [line for line in written if line not in content] == []
    assert b"tools_own:" in content
    assert len(written) >= 1
    assert leftovers(path) == []
