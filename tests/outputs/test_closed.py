"""Closed files in a folder where anything may stand under any name."""

import gzip
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from plantops_cli.outputs.closed import Packer, claim_name, tidy
from plantops_cli.outputs.file import LineFile
from tests.support.plantops import PATIENCE_SECONDS
from tests.support.samples import lines
from tests.support.strangers import ORDINARY, PLANTS, STRANGER, given_to, run_as, shared_folder

NOON = 1_795_521_600.0  # 2026-11-24 12:00 UTC
CLOSED = "lines.jsonl.20261124T120000Z"

ROTATE_TWICE = """
file = LineFile(path, rotate_bytes=4_096, clock=lambda: 1_795_521_600.0)
file.open()
for start in (0, 100, 200):
    file.append(lines(*range(start, start + 100)))
file.close()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "lines.jsonl"
    path.touch()
    return path


def packed(path: Path) -> None:
    """Compress what is closed."""
    packer = Packer()
    packer.start(path, owner=os.geteuid())
    packer.join(PATIENCE_SECONDS)


def state(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    return (status.st_ino, status.st_mode, status.st_size, status.st_uid)


def written(folder: Path) -> list[bytes]:
    """The lines of all files that a rotation has left, sorted."""
    found = b""
    for entry in folder.iterdir():
        if entry.is_file() and not entry.is_symlink() and entry.stat().st_nlink == 1:
            content = entry.read_bytes()
            found += gzip.decompress(content) if entry.suffix == ".gz" else content
    return sorted(found.splitlines(keepends=True))


@pytest.mark.parametrize("mode", [0o777, 0o1777], ids=["open", "sticky"])
@pytest.mark.parametrize("uid", [os.geteuid(), ORDINARY], ids=["as we are", "as an ordinary user"])
@pytest.mark.parametrize("plant", PLANTS)
def test_nothing_planted_is_followed_packed_replaced_or_waited_for(
    plant: Callable[[Path, Path], None], uid: int, mode: int
) -> None:
    with shared_folder(mode) as folder, shared_folder(0o700) as closet:
        secret = closet / "secret"
        secret.write_bytes(lines(1_000))  # what looks like ours is no more ours for it
        names = [CLOSED, f"{CLOSED}.gz", f"{CLOSED}.1.gz.part"]
        for name in names:
            plant(folder / name, secret)
        before = {name: state(folder / name) for name in names}
        run_as(uid, ROTATE_TWICE, folder / "lines.jsonl")
        # a second name of a file of our own is no more than a name, and that of a draft is removed
        names = [name for name in names if plant.__name__ != "hard_link" or not name.endswith(".part")]
        assert {name: state(folder / name) for name in names} == {name: before[name] for name in names}
        assert secret.read_bytes() == lines(1_000)
        assert [entry.name for entry in closet.iterdir()] == ["secret"]
        assert written(folder) == sorted(lines(*range(300)).splitlines(keepends=True))
        compressed = [entry for entry in folder.iterdir() if entry.suffix == ".gz" and entry.name not in names]
        assert len(compressed) == 2


@pytest.mark.parametrize("ending", ["", ".gz", ".gz.part"])
def test_a_file_of_a_strangers_is_neither_packed_nor_removed(ending: str) -> None:
    with shared_folder(0o777) as folder:
        planted = folder / (CLOSED + ending)
        planted.write_bytes(lines(1_000))
        given_to(STRANGER, planted)
        before = state(planted)
        run_as(ORDINARY, ROTATE_TWICE, folder / "lines.jsonl")
        assert state(planted) == before
        assert planted.read_bytes() == lines(1_000)
        assert len([entry for entry in folder.iterdir() if entry.suffix == ".gz" and entry != planted]) == 2


@pytest.mark.parametrize("content", [b"root:x:0:0\n", b"text", b'{"a":1}\n', lines(1) + b"text", lines(1) + b"{"])
def test_what_is_not_made_of_our_lines_is_not_packed(path: Path, content: bytes) -> None:
    closed = path.with_name(CLOSED)
    closed.write_bytes(content)
    packed(path)
    assert closed.read_bytes() == content
    assert len(list(path.parent.iterdir())) == 2


def test_a_closed_file_of_the_owner_of_the_file_is_packed() -> None:
    with shared_folder(0o755) as folder:
        path = folder / "lines.jsonl"
        for name, number in (("lines.jsonl", 2), (CLOSED, 1)):
            (folder / name).write_bytes(lines(number))
            given_to(ORDINARY, folder / name)
        run_as(0, ROTATE_TWICE, path, is_fresh=True)
        assert gzip.decompress((folder / f"{CLOSED}.gz").read_bytes()) == lines(1)
        assert len(list(folder.glob("*.gz"))) == 4


def test_what_was_compressed_by_a_killed_run_is_not_compressed_twice(path: Path) -> None:
    closed = path.with_name(CLOSED)
    closed.write_bytes(lines(*range(5_000)))
    done = path.with_name(f"{CLOSED}.gz")
    done.write_bytes(gzip.compress(closed.read_bytes()))
    before = state(done)
    packed(path)
    assert state(done) == before
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["lines.jsonl", done.name]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x1f\x8b half",
        gzip.compress(lines(1), mtime=0),
        gzip.compress(lines(1, 2, 3), mtime=0),
        gzip.compress(lines(1, 2), mtime=0)[:-9],
        gzip.compress(lines(1, 2), mtime=0)[:20] + b"\xff" * 40,
    ],
)
def test_a_compressed_file_of_another_content_stays_and_the_new_one_has_the_next_name(
    path: Path, content: bytes
) -> None:
    closed = path.with_name(CLOSED)
    closed.write_bytes(lines(1, 2))
    taken = path.with_name(f"{CLOSED}.gz")
    taken.write_bytes(content)
    packed(path)
    assert taken.read_bytes() == content
    assert gzip.decompress(path.with_name(f"{CLOSED}.1.gz").read_bytes()) == lines(1, 2)
    assert not closed.exists()


def test_on_a_disk_without_hard_links_nothing_is_replaced_either(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    for number, name in enumerate((CLOSED, "lines.jsonl.20261124T130000Z")):
        path.with_name(name).write_bytes(lines(number))
    path.with_name(f"{CLOSED}.gz").write_bytes(b"taken")
    packed(path)
    contents = {entry.name: entry.read_bytes() for entry in path.parent.iterdir()}
    assert contents.pop("lines.jsonl") == b""
    assert contents.pop(f"{CLOSED}.gz") == b"taken"
    assert {name: gzip.decompress(content) for name, content in contents.items()} == {
        f"{CLOSED}.1.gz": lines(0),
        "lines.jsonl.20261124T130000Z.gz": lines(1),
    }


def test_a_name_that_is_taken_is_passed_over_and_the_next_one_kept(path: Path) -> None:
    path.with_name(CLOSED).symlink_to("nowhere")
    path.with_name(f"{CLOSED}.1").mkdir()
    path.with_name(f"{CLOSED}.2.gz").symlink_to("nowhere")
    first, second = claim_name(path, NOON), claim_name(path, NOON)
    assert [first.name, second.name] == [f"{CLOSED}.3", f"{CLOSED}.4"]
    assert first.read_bytes() == b""


def test_what_killed_runs_have_left_is_removed_and_nothing_else(path: Path) -> None:
    leftovers = {CLOSED: b"", f"{CLOSED}.gz.part": b"\x1f\x8b", f"{CLOSED}.7.gz.2.part": b"\x1f\x8b"}
    others = {
        f"{CLOSED}.1": lines(1),
        f"{CLOSED}.1.gz": gzip.compress(lines(1)),
        "other.jsonl.20261124T120000Z": b"",
        "lines.jsonl.old": b"",
        "lines.jsonl.part": b"",
    }
    for name, content in (leftovers | others).items():
        path.with_name(name).write_bytes(content)
    path.with_name(f"{CLOSED}.5.gz.part").symlink_to("nowhere")
    path.with_name(f"{CLOSED}.6.gz.part").mkdir()
    tidy(path, owners={os.geteuid()})
    assert {entry.name for entry in path.parent.iterdir()} == {
        "lines.jsonl",
        f"{CLOSED}.5.gz.part",
        f"{CLOSED}.6.gz.part",
        *others,
    }


def test_what_could_not_be_closed_leaves_no_name_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LineFile(path, rotate_bytes=4_096, clock=lambda: NOON)
    file.open()
    file.append(lines(*range(100)))

    def refuse(self: Path, target: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(Path, "rename", refuse)
        with suppress(Exception):
            file.append(lines(100))
    assert [entry.name for entry in path.parent.iterdir()] == ["lines.jsonl"]
    file.append(lines(100))
    file.close()
    assert written(path.parent) == sorted(lines(*range(101)).splitlines(keepends=True))
