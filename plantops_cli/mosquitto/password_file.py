"""Mosquitto's password file on disk; the only writer of a Mosquitto file.

An update is prepared in a temporary file beside the old one and put in its place by a rename, so that the
broker, whenever it reads, finds the old file or the new one and never a part of either.
"""

import errno
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from plantops_cli.errors import PasswordFileChangedError, PasswordFileError
from plantops_cli.mosquitto.passwords import (
    DEFAULT_ITERATIONS,
    check_password,
    check_username,
    find_entry,
    hash_password,
    upsert_entry,
    verify_password,
    why_no_password_file,
)

_ATTEMPTS = 3
_LOCK_POLL_SECONDS = 0.02

_HINTS = {
    errno.ENOENT: "its folder must exist; only the file itself is made",
    errno.EISDIR: "docker makes a folder where the file to mount is missing: remove it and start again",
    errno.EACCES: "run it as the owner of the file, or as root",
    errno.EPERM: "run it as the owner of the file, or as root",
    errno.EROFS: "it is mounted read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EBUSY: "a file that is mounted by itself cannot be replaced: mount its folder instead",
    errno.ELOOP: "the symbolic link leads back to itself",
}


class Action(StrEnum):
    """What became of the user."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Provisioned:
    """The outcome of ``provision_user``.

    Attributes:
        action: what became of the user; the file was written unless it is ``UNCHANGED``.
        path: the password file, as it was given.
        username: the user.
        password_matches: whether the user can now log in with the given password; False only for a user
            who was there with another one and was not to be overwritten.
        is_new_file: whether the file was made, with mode 0600, and the broker's user may not read it yet.
    """

    action: Action
    path: Path
    username: str
    password_matches: bool
    is_new_file: bool


@dataclass(frozen=True, slots=True)
class _Wanted:
    username: str
    password: bytes = field(repr=False)
    overwrite: bool
    iterations: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to do; ``content`` is the whole new file, or None to leave it alone."""

    action: Action
    password_matches: bool
    is_new_file: bool
    content: bytes | None = field(repr=False)


class _Snapshot(NamedTuple):
    """The file as it was read; ``status`` is None when there was none."""

    content: bytes
    status: os.stat_result | None


def provision_user(
    path: Path,
    username: str,
    password: bytes,
    *,
    overwrite: bool = True,
    iterations: int = DEFAULT_ITERATIONS,
    lock_timeout_seconds: float = 10.0,
) -> Provisioned:
    """Make sure that a user can log in with a password, and touch nothing else in the file.

    Nothing is written when the user has the password already, so that this also works where nothing can be
    written. Otherwise the file keeps its owner, group and mode, and a symbolic link stays one; a missing file
    is made with mode 0600. A running broker reads the file again only when it is told to (SIGHUP).

    Args:
        path: Mosquitto's ``password_file``.
        username: the user to create or update.
        password: the password as the client will send it.
        overwrite: False to leave a user alone who is there with another password.
        iterations: rounds of PBKDF2 for a new entry.
        lock_timeout_seconds: how long to wait for another run on the same file.

    Raises:
        ConfigError: the user name, the password or the iterations are not allowed.
        PasswordFileError: the file cannot be read or replaced, or is no password file; it is as it was.
        PasswordFileChangedError: another program kept rewriting it meanwhile; it is as that one left it.
    """
    check_username(username)
    check_password(password)
    wanted = _Wanted(username, password, overwrite, iterations)
    try:
        plan = _provision(path, wanted, lock_timeout_seconds=lock_timeout_seconds)
    except OSError as exc:
        raise _translate(exc, path) from exc
    return Provisioned(plan.action, path, username, plan.password_matches, plan.is_new_file)


def _provision(path: Path, wanted: _Wanted, *, lock_timeout_seconds: float) -> _Plan:
    target = _follow_link(path)
    plan = _plan(_read(target), wanted)
    if plan.content is None:
        return plan
    with _locked(target, timeout_seconds=lock_timeout_seconds):
        return _update(target, wanted)


def _update(target: Path, wanted: _Wanted) -> _Plan:
    for _ in range(_ATTEMPTS):
        snapshot = _read(target)
        plan = _plan(snapshot, wanted)
        if plan.content is None or _replace(target, plan.content, old=snapshot.status):
            return plan
    raise PasswordFileChangedError(
        f"{str(target)!r} was rewritten by another program {_ATTEMPTS} times during the update",
        hint="try again when mosquitto_passwd, or what else writes it, has finished",
    )


def _plan(snapshot: _Snapshot, wanted: _Wanted) -> _Plan:
    entry = find_entry(snapshot.content, wanted.username)
    matches = entry is not None and verify_password(wanted.password, entry)
    if matches or (entry is not None and not wanted.overwrite):
        return _Plan(Action.UNCHANGED, matches, is_new_file=False, content=None)
    fresh = hash_password(wanted.password, iterations=wanted.iterations)
    content = upsert_entry(snapshot.content, wanted.username, fresh)
    action = Action.CREATED if entry is None else Action.UPDATED
    return _Plan(action, True, is_new_file=snapshot.status is None, content=content)


def _follow_link(path: Path) -> Path:
    if not path.is_symlink():
        return path
    try:
        return Path(os.path.realpath(path, strict=True))
    except FileNotFoundError as exc:
        # making what it points to would let whoever placed the link choose where hashes go
        raise PasswordFileError(
            f"{str(path)!r} is a symbolic link to a file that does not exist",
            hint="create that file, or remove the link",
        ) from exc


def _read(target: Path) -> _Snapshot:
    try:
        with open(target, "rb", opener=_open_for_reading) as file:
            status = os.fstat(file.fileno())
            _check_replaceable(target, status)
            content = file.read()
    except FileNotFoundError:
        return _Snapshot(b"", None)
    reason = why_no_password_file(content)
    if reason is not None:
        raise PasswordFileError(f"{str(target)!r}: {reason}", hint="give the file that password_file names")
    return _Snapshot(content, status)


def _open_for_reading(path: str, flags: int) -> int:
    # O_NONBLOCK: opening a FIFO must not wait for a writer before it can be refused
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _check_replaceable(target: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PasswordFileError(f"{str(target)!r} is not a regular file")
    if status.st_nlink > 1:
        raise PasswordFileError(
            f"{str(target)!r} has {status.st_nlink} hard links, and a new file would leave the others behind",
            hint="keep one of them, or use symbolic links",
        )


@contextmanager
def _locked(target: Path, *, timeout_seconds: float) -> Iterator[None]:
    # a file of its own, because the password file is replaced under the lock; removing it would be a race
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    lock = os.open(target.with_name(f".{target.name}.lock"), flags, 0o600)
    try:
        deadline = time.monotonic() + timeout_seconds
        while not _try_lock(lock):
            if time.monotonic() >= deadline:
                raise PasswordFileError(
                    f"{str(target)!r} is locked by another run, for {timeout_seconds:g} s now",
                    hint="try again later",
                )
            time.sleep(_LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(lock)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _replace(target: Path, content: bytes, *, old: os.stat_result | None) -> bool:
    """Put new content in place of the file; False when the file is no longer the old one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    temporary = Path(name)
    renamed = False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if old is not None:
                _take_after(file.fileno(), old, target=target)
            os.fsync(file.fileno())
        if _is_still(target, old):
            temporary.replace(target)
            renamed = True
    finally:
        if not renamed:
            temporary.unlink()
    if renamed:
        _sync_folder(target.parent)
    return renamed


def _take_after(descriptor: int, old: os.stat_result, *, target: Path) -> None:
    mine = os.fstat(descriptor)
    if (mine.st_uid, mine.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(descriptor, old.st_uid, old.st_gid)
        except PermissionError as exc:
            raise PasswordFileError(
                f"{str(target)!r} belongs to uid {old.st_uid}, gid {old.st_gid}, and would not any more",
                hint="run it as that user, or as root",
            ) from exc
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _is_still(target: Path, old: os.stat_result | None) -> bool:
    try:
        present = os.lstat(target)
    except FileNotFoundError:
        return old is None
    return old is not None and _identity(present) == _identity(old)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _sync_folder(folder: Path) -> None:
    # the new file is in place: a folder that cannot be synced costs no more than that a power cut may undo it
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _translate(exc: OSError, path: Path) -> PasswordFileError:
    where = "" if exc.filename in (None, path, str(path)) else f" at {str(exc.filename)!r}"
    reason = exc.strerror or type(exc).__name__
    hint = _HINTS.get(exc.errno or 0)
    return PasswordFileError(f"cannot update {str(path)!r}: {reason}{where}", hint=hint)
