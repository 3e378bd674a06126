"""Keeping others off a file of Mosquitto's: a lock among runs of plantops, a lease against everybody else."""

import errno
import fcntl
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from plantops_cli.errors import BrokerFileBusyError, BrokerFileError

_POLL_SECONDS = 0.02
_WAIT_LONGER = "try again later, or wait longer for the lock"


@contextmanager
def locked(target: Path, *, owner: tuple[int, int] | None, timeout_seconds: float) -> Iterator[None]:
    """Hold the lock file beside a file that is replaced; it stays, because removing it would be a race.

    Args:
        target: the file that the lock is for.
        owner: uid and gid of those who will lock it later; a lock file that root makes is given to them.
        timeout_seconds: how long to wait for another run.

    Raises:
        BrokerFileBusyError: another run held it all the time.
        BrokerFileError: something else bears the name of the lock file.
        OSError: it can be neither made nor opened.
    """
    lock = _open_lock(_lock_of(target), owner)
    try:
        lock_descriptor(lock, target, timeout_seconds=timeout_seconds)
        yield
    finally:
        os.close(lock)


def lock_descriptor(descriptor: int, target: Path, *, timeout_seconds: float) -> None:
    """Lock an open file until it is closed; the process's death frees it too.

    Raises:
        BrokerFileBusyError: another run held the lock for all of ``timeout_seconds``.
    """
    busy = BrokerFileBusyError(
        f"{str(target)!r} is locked by another run, for {timeout_seconds:g} s now", hint=_WAIT_LONGER
    )
    wait_until(lambda: _try_lock(descriptor), timeout_seconds=timeout_seconds, otherwise=busy)


@contextmanager
def opened_steady(target: Path, *, timeout_seconds: float) -> Iterator[int | None]:
    """Open a file for reading while nobody has it open for writing; None when there is no file.

    mosquitto_passwd empties the file and writes it anew without any lock: what is read in between lacks
    users. A lease (``fcntl`` F_SETLEASE, Linux) is granted only while nobody has the file open for writing,
    and until it ends it holds up whoever opens it so; ``is_disturbed`` tells of such a one. Where there are no
    leases, as on other systems and for another user's file, this opens the file and no more.

    Raises:
        BrokerFileBusyError: it was open for writing for all of ``timeout_seconds``.
        OSError: it cannot be opened.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        descriptor = _open_to_read(target)
        if descriptor is None:
            yield None
            return
        try:
            if _try_lease(descriptor):
                yield descriptor
                return
        finally:
            os.close(descriptor)
        if time.monotonic() >= deadline:
            raise BrokerFileBusyError(
                f"{str(target)!r} is open for writing in another program, for {timeout_seconds:g} s now",
                hint=_WAIT_LONGER,
            )
        time.sleep(_POLL_SECONDS)


def is_disturbed(descriptor: int) -> bool:
    """Tell whether somebody waits to write the file, whose change a replacement would lose."""
    if sys.platform != "linux":
        return False
    # a lease that could not be had reads as F_UNLCK, as a broken one does: ask for it again to tell them apart
    if fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_RDLCK:
        return False
    return not _try_lease(descriptor)


def wait_until(condition: Callable[[], bool], *, timeout_seconds: float, otherwise: Exception) -> None:
    """Poll a condition.

    Raises:
        Exception: ``otherwise``, when the condition was false for all of ``timeout_seconds``.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise otherwise
        time.sleep(_POLL_SECONDS)


def _open_to_read(target: Path) -> int | None:
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer before it can be refused
        return os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def mark_as_read(path: Path, at_seconds: float) -> None:
    """Keep, as the time of the lock file, that a broker read a file anew; without a lock file keep nothing.

    Args:
        path: the file, or a link to it.
        at_seconds: since the epoch; the broker began to read it no sooner.
    """
    with suppress(OSError):
        os.utime(_lock_of(_followed(path)), (at_seconds, at_seconds), follow_symlinks=False)


def read_at_seconds(path: Path) -> float:
    """Return what ``mark_as_read`` kept of a file; 0 for nothing.

    Args:
        path: the file, or a link to it.
    """
    try:
        return _lock_of(_followed(path)).lstat().st_mtime
    except OSError:
        return 0.0


def _followed(path: Path) -> Path:
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _lock_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


def _open_lock(path: Path, owner: tuple[int, int] | None) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        lock = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        lock = os.open(path, flags)
    else:
        os.utime(lock, (0, 0))  # see mark_as_read
        # only a file made here: one that was there may be a hard link to anything
        if owner is not None and os.geteuid() == 0:
            os.fchown(lock, *owner)
    if not stat.S_ISREG(os.fstat(lock).st_mode):
        os.close(lock)
        raise BrokerFileError(f"{str(path)!r} is in the way of the lock file", hint="remove it")
    return lock


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _try_lease(descriptor: int) -> bool:
    """Take a lease for reading; False while the file is open for writing, True where there are no leases."""
    if sys.platform != "linux":
        return True
    try:
        # the signal at the break of a lease is SIGIO by itself, which kills; SIGURG is ignored
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as exc:
        return exc.errno not in (errno.EAGAIN, errno.EBUSY)
    return True
