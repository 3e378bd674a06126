"""Whose a file is: links and files of strangers, in folders that everybody may write in."""

import errno
import os
import time
from pathlib import Path

import pytest

from plantops_cli.outputs.ownership import create_or_open, follow, is_strangers, opened_to_read
from tests.support.samples import lines
from tests.support.strangers import ORDINARY, STRANGER, given_to, run_as, shared_folder

APPEND = """
try:
    file = LineFile(path)
    file.open()
    file.append(lines(1))
    file.close()
    print("written")
except PlantopsError as exc:
    print(type(exc).__name__, exc, exc.hint)
"""
FOLDERS = pytest.mark.parametrize("mode", [0o777, 0o1777], ids=["open", "sticky"])
USERS = pytest.mark.parametrize("uid", [0, ORDINARY], ids=["as root", "as an ordinary user"])


def test_links_are_followed_as_the_system_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "to-b").symlink_to("a/b")
    (tmp_path / "a" / "up").symlink_to("../to-b/..")
    (tmp_path / "absolute").symlink_to(tmp_path / "a" / "up" / "b" / "file")
    monkeypatch.chdir(tmp_path / "a")
    for path in ("file", "../to-b/file", "up/b/../b/file", "../absolute", "b/../../a/./file", tmp_path / "to-b"):
        assert follow(Path(path)) == Path(os.path.realpath(path))


def test_a_folder_that_is_missing_or_links_in_a_circle_are_the_systems_errors(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    (tmp_path / "file").touch()
    for name, number in {"no/file": errno.ENOENT, "one": errno.ELOOP, "file/x": errno.ENOTDIR}.items():
        with pytest.raises(OSError, match=os.strerror(number)):
            follow(tmp_path / name)


def test_a_link_is_neither_opened_nor_made_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    for _ in range(2):
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            create_or_open(tmp_path / "link", mode=0o600)
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)), opened_to_read(tmp_path / "link"):
            pass
        (tmp_path / "target").touch()
    assert (tmp_path / "target").read_bytes() == b""


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    began = time.monotonic()
    os.close(create_or_open(tmp_path / "fifo", mode=0o600))
    with opened_to_read(tmp_path / "fifo"):
        pass
    assert time.monotonic() - began < 2


def test_our_own_file_is_never_a_strangers(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "file").touch()
    assert not is_strangers((tmp_path / "file").lstat(), tmp_path)


@FOLDERS
@USERS
@pytest.mark.parametrize("target", ["file", "absent", "empty"])
def test_a_link_of_a_strangers_is_refused_and_its_target_untouched(uid: int, mode: int, target: str) -> None:
    with shared_folder(mode) as folder, shared_folder(0o777) as closet:
        secret, link = closet / "secret", folder / "lines.jsonl"
        if target != "absent":
            secret.write_bytes(lines(7) if target == "file" else b"")
            given_to(uid, secret)
        link.symlink_to(secret)
        given_to(STRANGER, link)
        said = run_as(uid, APPEND, link)
        assert said.startswith(f"ForeignFileError '{link}' is a link of another user's")
        assert secret.exists() == (target != "absent")
        assert target == "absent" or secret.read_bytes() == (lines(7) if target == "file" else b"")


@FOLDERS
def test_a_folder_that_is_a_link_of_a_strangers_is_refused(mode: int) -> None:
    with shared_folder(mode) as folder, shared_folder(0o777) as closet:
        (folder / "logs").symlink_to(closet)
        given_to(STRANGER, folder / "logs")
        assert run_as(ORDINARY, APPEND, folder / "logs" / "lines.jsonl").startswith("ForeignFileError")
        assert list(closet.iterdir()) == []


@FOLDERS
@USERS
@pytest.mark.parametrize("owner", ["ours", "root's", "the folder's owner's"])
def test_a_link_that_nobody_else_made_is_followed(uid: int, mode: int, owner: str) -> None:
    with shared_folder(mode) as folder, shared_folder(0o777) as closet:
        link = folder / "lines.jsonl"
        link.symlink_to(closet / "lines.jsonl")
        given_to({"ours": uid, "root's": 0}.get(owner, STRANGER), link)
        if owner == "the folder's owner's":
            given_to(STRANGER, folder)
        # where the system has the rule too, it may be stricter: it does not know of root
        said = run_as(uid, APPEND, link)
        assert said == "written\n" or "Permission denied" in said
        assert said != "written\n" or (closet / "lines.jsonl").read_bytes() == lines(1)


def test_a_folder_that_may_not_be_written_in_is_refused_with_that_cure() -> None:
    with shared_folder(0o755 if os.geteuid() == 0 else 0o555) as folder:
        said = run_as(ORDINARY if os.geteuid() == 0 else os.geteuid(), APPEND, folder / "lines.jsonl")
        assert "Permission denied name a file that you may write, in a folder that is there" in said
        assert list(folder.iterdir()) == []


def test_a_link_of_anybodys_counts_where_not_everybody_may_write() -> None:
    with shared_folder(0o755) as folder, shared_folder(0o777) as closet:
        link = folder / "lines.jsonl"
        link.symlink_to(closet / "lines.jsonl")
        given_to(STRANGER, link)
        assert run_as(ORDINARY, APPEND, link) == "written\n"
        assert (closet / "lines.jsonl").read_bytes() == lines(1)


@FOLDERS
@USERS
@pytest.mark.parametrize("content", [b"", lines(7)], ids=["empty", "with our lines"])
def test_a_file_of_a_strangers_is_refused_untouched(uid: int, mode: int, content: bytes) -> None:
    with shared_folder(mode) as folder:
        path = folder / "lines.jsonl"
        path.write_bytes(content)
        path.chmod(0o666)
        given_to(STRANGER, path)
        said = run_as(uid, APPEND, path)
        assert said.startswith(f"ForeignFileError '{path}' may be another user's")
        assert path.read_bytes() == content


@FOLDERS
def test_a_second_name_of_a_file_elsewhere_is_refused_untouched(mode: int) -> None:
    with shared_folder(mode) as folder, shared_folder(0o755) as closet:
        other = closet / "empty"
        other.touch()
        (folder / "lines.jsonl").hardlink_to(other)
        said = run_as(os.geteuid(), APPEND, folder / "lines.jsonl")
        assert said.startswith("ForeignFileError")
        assert other.read_bytes() == b""


def test_a_second_name_in_a_folder_of_ones_own_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").write_bytes(lines(7))
    (tmp_path / "backup").hardlink_to(tmp_path / "lines.jsonl")
    assert run_as(os.geteuid(), APPEND, tmp_path / "lines.jsonl") == "written\n"


def test_a_file_is_continued_in_a_folder_that_may_not_be_written_in() -> None:
    with shared_folder(0o755) as folder:
        path = folder / "lines.jsonl"
        path.write_bytes(lines(7))
        given_to(ORDINARY, path)
        assert run_as(ORDINARY, APPEND, path, is_fresh=True) == "written\n"
        assert path.read_bytes() == lines(7, 1)


def test_root_continues_the_file_of_a_user_in_that_ones_folder() -> None:
    with shared_folder(0o700) as folder:
        path = folder / "lines.jsonl"
        path.write_bytes(lines(7))
        given_to(ORDINARY, path)
        given_to(ORDINARY, folder)
        assert run_as(0, APPEND, path) == "written\n"


@FOLDERS
def test_a_link_that_a_stranger_puts_in_place_of_a_file_that_is_written_is_refused(mode: int) -> None:
    script = f"""
    os.seteuid({ORDINARY})
    file = LineFile(path)
    file.open()
    file.append(lines(1))
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("target"))
    os.seteuid(0)
    os.chown(path, {STRANGER}, {STRANGER}, follow_symlinks=False)
    os.seteuid({ORDINARY})
    try:
        file.append(lines(2))
    except PlantopsError as exc:
        print(type(exc).__name__)
    """
    with shared_folder(mode) as folder:
        assert run_as(0, script, folder / "lines.jsonl") == "ForeignFileError\n"
        assert (folder / "moved").read_bytes() == lines(1)
        assert not (folder / "target").exists()
