"""Keeping others off a file: a lock among runs of plantops, a lease against everybody else."""

import os
import subprocess
import sys
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from plantops_cli.errors import BrokerFileBusyError, BrokerFileError
from plantops_cli.mosquitto.files.lock import (
    is_disturbed,
    lock_descriptor,
    locked,
    mark_as_read,
    opened_steady,
    read_at_seconds,
    wait_until,
)

ROOT = Path(__file__).parents[3]
SECONDS = 10.0
HOLD = """
import sys, time
from pathlib import Path
from plantops_cli.mosquitto.files.lock import locked
with locked(Path(sys.argv[1]), owner=None, timeout_seconds=10):
    print("held", flush=True)
    time.sleep(60)
"""

needs_leases = pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "passwd"
    path.write_bytes(b"alice:1\n")
    return path


def lock_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


def is_free(target: Path) -> bool:
    try:
        with locked(target, owner=None, timeout_seconds=0):
            return True
    except BrokerFileBusyError:
        return False


def enter(context: AbstractContextManager[object]) -> None:
    with context:
        pass


def test_a_lock_file_keeps_when_a_broker_read_the_file_and_by_itself_says_never(target: Path) -> None:
    link = target.with_name("link")
    link.symlink_to(target.name)
    mark_as_read(target, 1000.0)
    assert not lock_of(target).exists()
    assert is_free(target)
    assert read_at_seconds(target) == 0.0
    mark_as_read(link, 1000.0)
    assert is_free(target)
    assert (read_at_seconds(target), read_at_seconds(link)) == (1000.0, 1000.0)


def test_one_run_at_a_time_holds_the_lock_and_the_next_gets_it(target: Path) -> None:
    with locked(target, owner=None, timeout_seconds=0):
        assert not is_free(target)
    assert is_free(target)


def test_the_lock_is_given_back_when_the_work_fails(target: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(target, owner=None, timeout_seconds=0):
        raise ZeroDivisionError
    assert is_free(target)


def test_the_lock_file_stays_beside_the_target_and_is_its_owners_alone(target: Path) -> None:
    with locked(target, owner=None, timeout_seconds=0):
        pass
    assert lock_of(target).stat().st_mode & 0o7777 == 0o600
    assert lock_of(target).read_bytes() == b""


def test_a_file_that_is_not_there_yet_can_be_locked(tmp_path: Path) -> None:
    with locked(tmp_path / "passwd", owner=None, timeout_seconds=0):
        assert not (tmp_path / "passwd").exists()


def test_who_waits_long_enough_gets_the_lock(target: Path) -> None:
    held, released = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(target, owner=None, timeout_seconds=0):
            held.set()
            released.wait(SECONDS)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(SECONDS)
    threading.Timer(0.05, released.set).start()
    with locked(target, owner=None, timeout_seconds=SECONDS):
        assert released.is_set()
    holder.join(SECONDS)


def test_the_death_of_a_run_frees_its_lock(target: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(target)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert not is_free(target)
        holder.kill()
    assert is_free(target)


def test_a_held_lock_is_an_error_that_names_the_file_and_the_time(target: Path) -> None:
    busy = pytest.raises(BrokerFileBusyError, match=r"passwd' is locked by another run, for 0\.05 s now")
    with locked(target, owner=None, timeout_seconds=0), busy as caught:
        enter(locked(target, owner=None, timeout_seconds=0.05))
    assert caught.value.hint == "try again later, or wait longer for the lock"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "fifo"])
def test_what_bears_the_name_of_the_lock_file_is_never_taken_for_it(target: Path, make: object) -> None:
    assert callable(make)
    make(lock_of(target))
    with pytest.raises((BrokerFileError, IsADirectoryError)), locked(target, owner=None, timeout_seconds=0):
        pass


def test_the_file_itself_serves_as_a_lock_where_it_is_never_replaced(target: Path) -> None:
    with target.open("rb") as one, target.open("rb") as other:
        lock_descriptor(one.fileno(), target, timeout_seconds=0)
        with pytest.raises(BrokerFileBusyError):
            lock_descriptor(other.fileno(), target, timeout_seconds=0)


def test_a_missing_file_is_opened_as_none(tmp_path: Path) -> None:
    with opened_steady(tmp_path / "passwd", timeout_seconds=0) as file:
        assert file is None


def test_a_file_that_nobody_writes_is_opened_for_reading(target: Path) -> None:
    with opened_steady(target, timeout_seconds=0) as file:
        assert file is not None
        assert os.read(file, 100) == b"alice:1\n"
        assert not is_disturbed(file)


def test_a_link_is_not_followed(target: Path) -> None:
    link = target.with_name("link")
    link.symlink_to(target)
    with pytest.raises(OSError, match="link"), opened_steady(link, timeout_seconds=0):
        pass


@pytest.mark.timeout(20)
def test_a_fifo_is_opened_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with opened_steady(tmp_path / "fifo", timeout_seconds=0) as file:
        assert file is not None


@needs_leases
def test_a_file_that_stays_open_for_writing_is_busy(target: Path) -> None:
    with target.open("ab"), pytest.raises(BrokerFileBusyError, match="open for writing in another program"):
        enter(opened_steady(target, timeout_seconds=0.05))


@needs_leases
def test_a_writer_is_held_up_seen_and_let_through_at_the_end(target: Path) -> None:
    writer = threading.Thread(target=lambda: target.open("ab").close())
    with opened_steady(target, timeout_seconds=0) as file:
        assert file is not None
        writer.start()
        wait_until(lambda: is_disturbed(file), timeout_seconds=SECONDS, otherwise=AssertionError("not seen"))
        assert writer.is_alive()
    writer.join(SECONDS)
    assert not writer.is_alive()


def test_a_condition_that_is_true_is_asked_for_once() -> None:
    answers = iter([True, False])
    wait_until(lambda: next(answers), timeout_seconds=0, otherwise=TimeoutError())
    assert list(answers) == [False]


def test_a_condition_that_becomes_true_is_waited_for() -> None:
    answers = iter([False, False, True])
    wait_until(lambda: next(answers), timeout_seconds=SECONDS, otherwise=TimeoutError())
    assert list(answers) == []


def test_a_condition_that_stays_false_ends_in_the_error_that_the_caller_names() -> None:
    with pytest.raises(LookupError, match="mine"):
        wait_until(lambda: False, timeout_seconds=0.05, otherwise=LookupError("mine"))
