"""What a file is besides its content, and what of it a new file takes on."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.files.traits import (
    check_folder,
    check_regular,
    check_replaceable,
    follow_link,
    is_mount_point,
    kept_mode,
    state_notices,
    take_after,
)
from tests.support.scripts import run_script
from tests.support.strangers import STRANGER, given_to, shared_folder

AS_NOBODY = """
import os, sys
from pathlib import Path
from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.files.traits import check_folder, check_replaceable, check_writable
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
path = Path(sys.argv[1])
try:
    {call}
except (BrokerFileError, OSError) as exc:
    print(type(exc).__name__, exc)
"""

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can become somebody else, or give a file away"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "passwd"
    path.write_bytes(b"alice:1\n")
    path.chmod(0o640)
    return path


@pytest.fixture
def open_folder() -> Iterator[Path]:
    # tmp_path is closed to other users
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def as_nobody(call: str, path: Path) -> str:
    done = run_script(AS_NOBODY.format(call=call), path)
    assert done.code == 0, done.stderr
    return done.stdout.decode()


def test_a_path_that_is_no_link_leads_to_itself(path: Path) -> None:
    assert follow_link(path) == path
    assert follow_link(path.with_name("none yet")) == path.with_name("none yet")


def test_a_link_leads_to_its_file_through_other_links(path: Path) -> None:
    path.with_name("inner").symlink_to("passwd")
    path.with_name("outer").symlink_to("inner")
    assert follow_link(path.with_name("outer")) == path.resolve()


def test_a_link_to_nothing_is_refused_and_one_to_itself_is_an_error_of_the_system(path: Path) -> None:
    path.with_name("dangling").symlink_to("nothing")
    path.with_name("circle").symlink_to("circle")
    with pytest.raises(BrokerFileError, match="a symbolic link to a file that does not exist"):
        follow_link(path.with_name("dangling"))
    with pytest.raises(OSError) as caught:  # noqa: PT011  # by its number
        follow_link(path.with_name("circle"))
    assert caught.value.errno == errno.ELOOP


@needs_root
def test_a_strangers_link_is_refused_only_where_everybody_may_put_one(path: Path) -> None:
    with shared_folder(0o1777) as folder:
        link = folder / "link"
        link.symlink_to(path)
        assert follow_link(link) == path.resolve()
        given_to(STRANGER, link)
        with pytest.raises(BrokerFileError, match="a link of another user's"):
            follow_link(link)
        folder.chmod(0o755)
        assert follow_link(link) == path.resolve()


def test_an_ordinary_file_is_no_mount_point(path: Path) -> None:
    assert not is_mount_point(path)
    assert not is_mount_point(path.with_name("none"))


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="only Linux tells")
def test_what_is_mounted_is_one() -> None:
    assert is_mount_point(Path("/proc"))


def test_what_only_looks_like_a_file_is_refused(path: Path) -> None:
    fifo = path.with_name("fifo")
    os.mkfifo(fifo)
    check_regular(path, path.stat())
    with pytest.raises(BrokerFileError, match="fifo' is not a regular file"):
        check_regular(fifo, fifo.stat())
    with pytest.raises(IsADirectoryError):
        check_regular(path.parent, path.parent.stat())


def test_a_missing_folder_is_an_error_of_the_system(path: Path) -> None:
    check_folder(path)
    with pytest.raises(FileNotFoundError):
        check_folder(path.parent / "none" / "passwd")


@needs_root
def test_a_folder_or_a_file_that_this_user_may_not_write_is_refused(open_folder: Path) -> None:
    path = open_folder / "passwd"
    path.touch(0o644)
    assert "nothing can be written in its folder" in as_nobody("check_folder(path)", path)
    assert as_nobody("check_writable(path)", path).startswith("PermissionError")
    path.chmod(0o666)
    assert as_nobody("check_writable(path)", path) == ""


def test_a_file_with_a_second_link_cannot_be_replaced(path: Path) -> None:
    check_replaceable(path, path.stat())
    path.with_name("second").hardlink_to(path)
    with pytest.raises(BrokerFileError, match="2 hard links"):
        check_replaceable(path, path.stat())


@needs_root
def test_a_file_can_be_replaced_by_its_owner_in_a_group_of_its_own_alone(open_folder: Path) -> None:
    path = open_folder / "passwd"
    path.touch()
    call = "check_replaceable(path, path.stat())"
    assert "belongs to uid 0, gid 0, and would not any more" in as_nobody(call, path)
    os.chown(path, 65_534, 0)
    assert "belongs to uid 65534, gid 0" in as_nobody(call, path)
    open_folder.chmod(0o2755)  # new files then have the folder's group
    assert as_nobody(call, path) == ""


@pytest.mark.parametrize(
    ("mode", "kept"), [(0o600, 0o600), (0o644, 0o644), (0o666, 0o664), (0o777, 0o664), (0o6755, 0o644)]
)
def test_of_a_mode_write_for_all_and_execute_are_not_kept(mode: int, kept: int) -> None:
    assert kept_mode(mode) == kept


def test_a_new_file_takes_on_the_mode_of_the_old_one_without_a_word(path: Path) -> None:
    with path.open("rb") as old, path.with_name("new").open("wb") as new:
        assert take_after(new.fileno(), old.fileno(), target=path) == ()
        assert stat.S_IMODE(os.fstat(new.fileno()).st_mode) == 0o640


def test_what_of_the_mode_is_not_taken_on_is_said(path: Path) -> None:
    path.chmod(0o666)
    with path.open("rb") as old, path.with_name("new").open("wb") as new:
        (notice,) = take_after(new.fileno(), old.fileno(), target=path)
    assert notice.endswith("passwd' was 0666 and is 0664 now")


@needs_root
def test_a_new_file_takes_on_owner_and_group(path: Path) -> None:
    os.chown(path, 12_345, 23_456)
    with path.open("rb") as old, path.with_name("new").open("wb") as new:
        take_after(new.fileno(), old.fileno(), target=path)
        status = os.fstat(new.fileno())
    assert (status.st_uid, status.st_gid) == (12_345, 23_456)


def test_a_file_as_it_should_be_needs_no_notice(path: Path) -> None:
    path.parent.chmod(0o755)
    assert state_notices(path, path) == ()


@pytest.mark.parametrize(
    ("mode", "folder_mode", "told"),
    [
        (0o644, 0o755, "every user of this machine can read"),
        (0o642, 0o755, "every user of this machine can write"),
        (0o640, 0o775, "other users can write to"),
    ],
)
def test_whatever_lets_others_at_the_file_is_told(path: Path, mode: int, folder_mode: int, told: str) -> None:
    path.chmod(mode)
    path.parent.chmod(folder_mode)
    (notice,) = state_notices(path, path)
    assert told in notice


def test_a_link_is_told_for_a_newer_broker_refuses_it(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    path.parent.chmod(0o755)
    (notice,) = state_notices(link, path)
    assert "which Mosquitto 2.1 refuses" in notice
