"""JSON lines in a file, on real files, full disks and killed processes."""

import asyncio
import errno
import gzip
import json
import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from plantops_cli.errors import ConfigError, ForeignFileError, NoRoomError, OutputError
from plantops_cli.formats.jsonl import encode
from plantops_cli.outputs.file import FileDestination, LineFile
from tests.support.plantops import PATIENCE_SECONDS
from tests.support.samples import lines, message

NOON = 1_795_521_600.0  # 2026-11-24 12:00 UTC, where an hour begins


CUT = lines(2)[:-3]
LONG_CUT = CUT + b" " * 3_000_000


class Clock:
    def __init__(self) -> None:
        self.seconds = NOON

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lines.jsonl"


def opened(path: Path, **options: object) -> LineFile:
    file = LineFile(path, **options)  # type: ignore[arg-type]  # as given
    file.open()
    return file


def everything(folder: Path) -> list[int]:
    """The numbers in all files of a folder, closed ones first."""
    closed = sorted(path for path in folder.iterdir() if path.suffix == ".gz")
    contents = [gzip.decompress(path.read_bytes()) for path in closed]
    contents += [path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".gz"]
    return [json.loads(line)["payload"]["n"] for content in contents for line in content.splitlines()]


def test_lines_are_appended_to_what_is_there(path: Path) -> None:
    path.write_bytes(lines(1))
    file = opened(path)
    file.append(lines(2, 3))
    file.append(lines(4))
    file.close()
    assert path.read_bytes() == lines(1, 2, 3, 4)
    assert file.notices == []


@pytest.mark.parametrize("cut", [CUT, b"\0" * 9, CUT + b"\0\0\0", LONG_CUT, LONG_CUT + b"\0" * 200_000])
@pytest.mark.parametrize("whole", [b"", lines(1), lines(*range(20_000))])
def test_a_cut_last_line_is_taken_off_and_told(path: Path, whole: bytes, cut: bytes) -> None:
    path.write_bytes(whole + cut)
    file = opened(path)
    assert path.read_bytes() == whole
    assert f"{len(cut)} bytes" in file.notices[0]
    file.append(lines(2))
    file.close()
    assert path.read_bytes() == whole + lines(2)


def test_a_killed_program_may_have_cut_its_last_line_anywhere(path: Path) -> None:
    whole, last = lines(1), encode(message('"\u00fc\\"'.encode(), topic='devices/\u00fc\\"/x', dup=True))
    for length in range(1, len(last)):
        path.write_bytes(whole + last[:length])
        opened(path).close()
        assert path.read_bytes() == whole


@pytest.mark.parametrize("size", [len(lines(2)) // 2, len(lines(2)) - 1])
def test_what_was_killed_in_its_very_first_write_begins_anew(path: Path, size: int) -> None:
    path.write_bytes(lines(2)[:size])
    opened(path).close()
    assert path.read_bytes() == b""


FOREIGN = {
    "a database": b"SQLite format 3\0" + bytes(range(256)) * 38,
    "settings": b'{"name": "pump"}',
    "settings in lines": b'{\n  "name": "pump"\n}\n',
    "one bracket": b"{",
    "too little to tell": b'{"tst":"2026-11-23T20:15:02.123456+00:00","topic":',
    "other lines": b'{"a":1}\n{"a":2}\n',
    "lines of mosquitto_sub": b'{"tst":"2026-11-23T20:15:02.123456+0000","topic":"t","qos":1,"retain":0,'
    b'"payloadlen":2,"mid":1,"payload":{}}\n',
    "one of them without its end": b'{"tst":"2026-11-23T20:15:02.123456+0000","topic":"t","qos":1,"ret',
    "fields in another order": b'{"topic":"t","tst":"2026-11-23T20:15:02.123456+00:00"}\n',
    "line ends of Windows": lines(1, 2).replace(b"\n", b"\r\n"),
    "a blank line": lines(1) + b"\n",
    "a line of ours that lacks its end": lines(1)[:-3] + b"\n",
    "text behind our lines": lines(1) + b"remember the milk",
    "a line behind our lines": lines(1) + b"remember the milk\n",
    "bytes behind our lines": lines(1) + bytes(range(200)),
    "NULs before text": b"\0" * 4_096 + b"text",
    "NULs behind text": b"text" + b"\0" * 4_096,
    "NULs behind a foreign line": b"text\n" + b"\0" * 4_096,
    "long text": b"x" * 3_000_000,
    "long text behind a line of ours": lines(1) + b"x" * 3_000_000,
    "a long line": b"x" * 3_000_000 + b"\n",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_what_plantops_did_not_write_is_refused_untouched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ForeignFileError, match="does not end in lines of plantops") as caught:
        opened(path)
    assert path.read_bytes() == content
    assert "untouched" in (caught.value.hint or "")


@given(st.binary(), st.sampled_from([b"", lines(1), b"\n"]))
@example(b"{", b"")
@example(b"{\0", b"")
@example(b"{\0", lines(1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_there_is_kept(path: Path, content: bytes, before: bytes) -> None:
    path.write_bytes(before + content)
    # so short a beginning says only behind a whole line whose it is; NULs may be behind it, of a power cut
    text = content.rstrip(b"\0")
    if text and not (before and lines(2).startswith(text)):
        with pytest.raises(ForeignFileError):
            opened(path)
        assert path.read_bytes() == before + content
    elif before != b"\n":
        opened(path).close()
        assert path.read_bytes() == before


def test_a_huge_file_of_somebody_elses_is_refused_without_reading_it(path: Path) -> None:
    for content in (b"text", b"text\n", b"\0\0\0\x18ftyp"):
        path.write_bytes(content)
        os.truncate(path, 1 << 40)
        began = time.monotonic()
        with pytest.raises(ForeignFileError):
            opened(path)
        assert time.monotonic() - began < 2
        assert path.stat().st_size == 1 << 40


@pytest.mark.parametrize("payload", [b'"' + b"x" * 5_000_000 + b'"', b"x" * 5_000_000, b"\xff" * 5_000_000])
def test_a_long_line_of_ours_is_continued(path: Path, payload: bytes) -> None:
    long = encode(message(payload))
    for content in (long, lines(1) + long, long + CUT, long + long[:-7] + b"\0" * 90):
        path.write_bytes(content)
        opened(path).close()
        assert path.read_bytes() == content[: content.rfind(b"\n") + 1]


def test_what_comes_to_the_place_of_a_file_that_was_moved_away_is_judged_alike(path: Path, tmp_path: Path) -> None:
    file = opened(path)
    file.append(lines(1))
    path.rename(tmp_path / "moved")
    path.write_bytes(b"remember the milk")
    with pytest.raises(ForeignFileError, match="does not end in lines of plantops"):
        file.append(lines(2))
    assert path.read_bytes() == b"remember the milk"
    assert (tmp_path / "moved").read_bytes() == lines(1)
    path.write_bytes(lines(5) + CUT)
    file.append(lines(2))
    file.close()
    assert path.read_bytes() == lines(5, 2)
    assert len(file.notices) == 1


def test_two_at_once_are_refused(path: Path) -> None:
    file = opened(path)
    with pytest.raises(ConfigError, match="another plantops"):
        opened(path)
    file.close()
    opened(path).close()


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, words in {"fifo": "regular file", ".": "directory", "no/such/folder": "No such file"}.items():
        with pytest.raises(ConfigError, match=words):
            opened(tmp_path / name)


@pytest.mark.parametrize("content", [None, b"", lines(0)])
def test_a_link_stays_one_and_the_file_that_it_leads_to_is_rotated(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "disk").mkdir()
    path, link = tmp_path / "disk" / "lines.jsonl", tmp_path / "link"
    link.symlink_to(path)
    if content is not None:
        path.write_bytes(content)
    file = opened(link, rotate_bytes=4_096)
    file.append(lines(*range(1, 500)))
    file.append(lines(500))
    file.close()
    assert link.readlink() == path
    assert path.read_bytes() == lines(500)
    assert sorted(everything(tmp_path / "disk")) == list(range(0 if content else 1, 501))
    assert sorted(tmp_path.iterdir()) == [tmp_path / "disk", link]


def test_a_file_moved_away_is_begun_anew(path: Path, tmp_path: Path) -> None:
    file = opened(path)
    file.append(lines(1))
    path.rename(tmp_path / "lines.jsonl.1")
    file.append(lines(2))
    path.unlink()
    file.append(lines(3))
    file.close()
    assert (tmp_path / "lines.jsonl.1").read_bytes() == lines(1)
    assert path.read_bytes() == lines(3)


def test_what_is_written_while_the_file_is_moved_away_is_in_the_new_one_too(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system_fsync = os.fsync

    def moving(descriptor: int) -> None:
        system_fsync(descriptor)
        monkeypatch.setattr(os, "fsync", system_fsync)
        path.rename(tmp_path / "lines.jsonl.1")

    file = opened(path)
    monkeypatch.setattr(os, "fsync", moving)
    file.append(lines(1))
    file.append(lines(2))
    file.close()
    assert (tmp_path / "lines.jsonl.1").read_bytes() == lines(1)
    assert path.read_bytes() == lines(1, 2)


def test_nothing_is_lost_to_one_who_moves_reads_and_removes_the_file_again_and_again(path: Path) -> None:
    """As logrotate does with ``compress`` and without ``delaycompress``."""
    moved = path.with_suffix(".1")
    kept: set[bytes] = set()
    is_over = threading.Event()

    def rotate() -> None:
        while not is_over.wait(0.001):
            with suppress(FileNotFoundError):
                path.rename(moved)
                kept.update(moved.read_bytes().splitlines(keepends=True))
                moved.unlink()

    file = opened(path)
    rotating = threading.Thread(target=rotate)
    rotating.start()
    for number in range(200):
        file.append(lines(number))
    is_over.set()
    rotating.join()
    file.close()
    kept.update(path.read_bytes().splitlines(keepends=True) if path.exists() else ())
    assert {lines(number) for number in range(200)} - kept == set()


# A failing disk


def test_lines_are_on_the_disk_when_append_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = opened(path)
    system_write, system_fsync, done = os.write, os.fsync, []

    def write(descriptor: int, data: memoryview) -> int:
        done.append(("written", descriptor))
        return system_write(descriptor, data[:100])

    def fsync(descriptor: int) -> None:
        system_fsync(descriptor)
        done.append(("on disk", descriptor))

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "fsync", fsync)
    file.append(lines(1))
    assert done == [("written", file._descriptor)] * 2 + [("on disk", file._descriptor)]
    assert path.read_bytes() == lines(1)
    file.close()


def test_what_does_not_reach_the_disk_is_taken_back_and_no_want_of_room(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = opened(path)
    file.append(lines(1))
    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", failure(errno.EIO))
        with pytest.raises(OutputError, match="Input/output error") as caught:
            file.append(lines(2))
    assert not isinstance(caught.value, NoRoomError)
    assert path.read_bytes() == lines(1)
    file.close()


def test_a_cut_line_that_cannot_be_taken_back_at_once_is_before_the_next_one(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system_write = os.write

    def write(descriptor: int, data: memoryview) -> int:
        if path.read_bytes() != lines(1):
            failure(errno.ENOSPC)()
        return system_write(descriptor, data[:100])

    file = opened(path)
    file.append(lines(1))
    with monkeypatch.context() as failing:
        failing.setattr(os, "write", write)
        failing.setattr(os, "ftruncate", failure(errno.EIO))
        with pytest.raises(NoRoomError):
            file.append(lines(2))
        path.rename(tmp_path / "lines.jsonl.1")
        with pytest.raises(OutputError, match="Input/output error"):
            file.append(lines(2))
    file.append(lines(2))
    file.close()
    assert (tmp_path / "lines.jsonl.1").read_bytes() == lines(1)
    assert path.read_bytes() == lines(2)


def failure(number: int) -> Callable[..., NoReturn]:
    def fail(*arguments: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return fail


# A full disk


def test_on_a_full_disk_nothing_is_half_written_and_the_same_lines_fit_later(tmp_path: Path) -> None:
    """The limit of a file's size stands for a full disk; it is a process' own, so that this needs one."""
    script = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from plantops_cli.errors import NoRoomError
        from plantops_cli.outputs.file import LineFile
        from tests.support.samples import lines

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
        file = LineFile(Path(sys.argv[1]))
        file.open()
        many = lines(*range(500))
        for _ in range(3):
            try:
                file.append(many)
            except NoRoomError as exc:
                print(exc)
            print(Path(sys.argv[1]).stat().st_size)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        file.append(many)
        file.close()
    """)
    path = tmp_path / "lines.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout.count("File too large") == 3
    assert done.stdout.splitlines()[1::2] == ["0", "0", "0"]
    assert everything(tmp_path) == list(range(500))


def test_a_disk_that_is_full_is_no_room(path: Path) -> None:
    file = LineFile(path)
    file.path = Path("/dev/full")
    file._descriptor = os.open(file.path, os.O_WRONLY)
    with pytest.raises(NoRoomError, match="No space left"):
        file.append(lines(1))
    file.close()


def test_a_disk_that_is_full_when_a_new_file_is_to_be_made_is_no_room(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system_open = os.open

    def without_room(name: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return system_open(name, flags, mode)

    file = opened(path, rotate_bytes=4_096)
    file.append(lines(*range(500)))
    with monkeypatch.context() as full:
        full.setattr(os, "open", without_room)
        for _ in range(2):
            with pytest.raises(NoRoomError, match="No space left"):
                file.append(lines(500))
    file.append(lines(500))
    file.close()
    assert path.read_bytes() == lines(500)
    assert everything(tmp_path) == list(range(501))


def test_a_compression_that_finds_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    closed = tmp_path / "lines.jsonl.20261124T120000Z"
    closed.write_bytes(encode(message(random.randbytes(100_000))))
    script = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from plantops_cli.outputs.file import LineFile

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        file = LineFile(Path(sys.argv[1]), rotate_bytes=4096)
        file.open()
        file.close()
    """)
    subprocess.run(
        [sys.executable, "-c", script, tmp_path / "lines.jsonl"],
        capture_output=True,
        check=True,
        env=environment(),
    )
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == ["lines.jsonl", closed.name]
    opened(tmp_path / "lines.jsonl", rotate_bytes=4_096).close()
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == ["lines.jsonl", f"{closed.name}.gz"]


def environment() -> dict[str, str]:
    return dict(os.environ) | {"PYTHONPATH": str(Path(__file__).parents[2])}


def test_whoever_is_killed_leaves_every_line_that_was_appended_once(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from plantops_cli.outputs.file import LineFile
        from tests.support.samples import lines

        file = LineFile(Path(sys.argv[1]), rotate_bytes=4096)
        file.open()
        for number in range(int(sys.argv[2]), 1_000_000, 10):
            file.append(lines(*range(number, number + 10)))
            print(number + 10, flush=True)
    """)
    folder = tmp_path / "log"
    folder.mkdir()
    done = 0
    for _ in range(12):
        command = [sys.executable, "-c", script, str(folder / "lines.jsonl"), str(done)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(random.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            said = process.stdout.read().split()
        done = int(said[-1]) if said else done + 10
        file = opened(folder / "lines.jsonl", rotate_bytes=4096)
        file.close()
        # what was written, but not told, is written again by the next run
        found = everything(folder)
        assert set(found) >= set(range(done))
        assert all(found.count(number) <= 2 for number in set(found))
    assert [path.name for path in folder.iterdir() if path.suffix not in (".gz", ".jsonl")] == []


# Rotation


def test_a_file_that_would_become_too_long_is_closed_and_compressed(tmp_path: Path, path: Path) -> None:
    file = opened(path, rotate_bytes=65_536, clock=Clock())
    for start in range(0, 2_000, 50):
        file.append(lines(*range(start, start + 50)))
        assert path.stat().st_size <= 65_536
    file.close()
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names[:3] == [
        "lines.jsonl",
        "lines.jsonl.20261124T120000Z.1.gz",
        "lines.jsonl.20261124T120000Z.2.gz",
    ]
    assert sorted(everything(tmp_path)) == list(range(2_000))
    assert not [name for name in names if name.endswith(".part")]


def test_a_batch_longer_than_the_limit_has_a_file_of_its_own(tmp_path: Path, path: Path) -> None:
    file = opened(path, rotate_bytes=4_096)
    file.append(lines(1))
    file.append(lines(*range(2, 2_000)))
    file.append(lines(2_000))
    file.close()
    assert path.read_bytes() == lines(2_000)
    assert sorted(everything(tmp_path)) == list(range(1, 2_001))


def test_a_new_period_begins_a_new_file(tmp_path: Path, path: Path) -> None:
    clock = Clock()
    file = opened(path, rotate_seconds=3_600.0, clock=clock)
    file.append(lines(1))
    clock.seconds += 3_599
    file.append(lines(2))
    clock.seconds += 1
    file.append(lines(3))
    file.close()
    assert path.read_bytes() == lines(3)
    [closed] = tmp_path.glob("*.gz")
    assert closed.name == "lines.jsonl.20261124T130000Z.gz"
    assert gzip.decompress(closed.read_bytes()) == lines(1, 2)


@pytest.mark.parametrize("cut", [b"", CUT])
def test_a_file_of_an_earlier_period_is_closed_by_the_first_line_of_a_new_run(
    tmp_path: Path, path: Path, cut: bytes
) -> None:
    path.write_bytes(lines(1) + cut)
    os.utime(path, (time.time() - 7_200,) * 2)
    file = opened(path, rotate_seconds=3_600.0)
    file.append(lines(2))
    file.close()
    assert path.read_bytes() == lines(2)
    [closed] = tmp_path.glob("*.gz")
    assert gzip.decompress(closed.read_bytes()) == lines(1)


def test_a_compression_that_was_cut_off_is_ended_by_the_next_run(tmp_path: Path, path: Path) -> None:
    closed = tmp_path / "lines.jsonl.20261124T120000Z"
    closed.write_bytes(lines(1, 2))
    closed.with_name(f"{closed.name}.gz.part").write_bytes(b"\x1f\x8b half")
    opened(path, rotate_bytes=4_096).close()
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == ["lines.jsonl", f"{closed.name}.gz"]
    assert everything(tmp_path) == [1, 2]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Compression waits, before its file is on the disk, until this is set."""
    go, system_fsync = threading.Event(), os.fsync

    def fsync(descriptor: int) -> None:
        if threading.current_thread().name == "plantops-gzip":
            assert go.wait(PATIENCE_SECONDS)
        system_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return go


def begun(closed: Path) -> Path:
    """Wait for the compressed file that is being made."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (part := closed.with_name(f"{closed.name}.gz.part")).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return part


def test_a_file_that_is_closed_while_another_is_compressed_is_compressed_after_it(
    tmp_path: Path, path: Path, held: threading.Event
) -> None:
    closed = tmp_path / "lines.jsonl.20261124T120000Z"
    closed.write_bytes(lines(0))
    file = opened(path, rotate_bytes=4_096)
    begun(closed)
    file.append(lines(*range(1, 500)))
    file.append(lines(500))
    held.set()
    file.close()
    assert [entry.suffix for entry in sorted(tmp_path.iterdir())] == [".jsonl", ".gz", ".gz"]
    assert sorted(everything(tmp_path)) == list(range(501))


def test_what_only_some_may_read_stays_so(tmp_path: Path, path: Path, held: threading.Event) -> None:
    closed = tmp_path / "lines.jsonl.20261124T120000Z"
    closed.write_bytes(lines(0))
    closed.chmod(0o640)
    path.touch(0o640)
    file = opened(path, rotate_bytes=4_096)
    begun(closed)
    file.append(lines(*range(500)))
    file.append(lines(500))
    held.set()
    file.close()
    assert [stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir()] == [0o640] * 3


def test_what_is_being_compressed_may_be_read_by_its_owner_alone(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "lines.jsonl.20261124T120000Z"
    closed.write_bytes(lines(0))
    system_fchmod, modes = os.fchmod, []

    def fchmod(descriptor: int, mode: int) -> None:
        modes.append((stat.S_IMODE(os.fstat(descriptor).st_mode), mode))
        system_fchmod(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", fchmod)
    opened(path, rotate_bytes=4_096).close()
    assert modes == [(0o600, stat.S_IMODE(path.stat().st_mode))]


async def test_the_event_loop_does_not_wait_for_a_compression(
    tmp_path: Path, path: Path, held: threading.Event
) -> None:
    closed = tmp_path / "lines.jsonl.20261124T120000Z"
    closed.write_bytes(lines(0))
    output = FileDestination(LineFile(path, rotate_bytes=4_096), print)
    begun(closed)
    began = time.monotonic()
    output.close()
    assert time.monotonic() - began < 2
    held.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == ["lines.jsonl", f"{closed.name}.gz"]


async def test_a_person_is_told_once_that_the_disk_is_full_and_that_there_is_room_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    destination = FileDestination(LineFile(path), said.append)
    system_write, refusals = os.write, [errno.ENOSPC, errno.ENOSPC]

    def write(descriptor: int, data: bytes) -> int:
        if refusals:
            raise OSError(refusals.pop(), "No space left on device")
        return system_write(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    assert await destination.write(lines(1), stopped=asyncio.Event()) == len(lines(1))
    destination.close()
    assert path.read_bytes() == lines(1)
    assert [text.split(" ")[0] for text in said] == ["cannot", "there"]


def test_a_person_is_told_what_was_found_when_the_file_was_opened(path: Path) -> None:
    path.write_bytes(lines(1) + CUT)
    said: list[str] = []
    FileDestination(LineFile(path), said.append)
    assert len(said) == 1
    assert said[0].startswith(f"note: '{path}' ended in a cut line")
