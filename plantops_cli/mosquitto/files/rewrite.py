"""The way in which every file of Mosquitto's is changed: under a lock, whole or not at all.

New content is prepared in a temporary file beside the old one and put in its place by a rename, so that the
broker, whenever it reads, finds the old file or the new one and never a part of either. A file that is
mounted by itself cannot be replaced and is written in place (``in_place``).
"""

import errno
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from plantops_cli.errors import BrokerFileChangedError, BrokerFileError
from plantops_cli.mosquitto.files.in_place import opened_in_place, overwrite, read_whole, sort_out_backups
from plantops_cli.mosquitto.files.lock import is_disturbed, locked, opened_steady
from plantops_cli.mosquitto.files.traits import (
    check_folder,
    check_regular,
    check_replaceable,
    check_writable,
    follow_link,
    is_mount_point,
    state_notices,
    take_after,
)

# mosquitto_passwd takes no lock: it may write between our reading and our rename, and then all begins anew
_ATTEMPTS = 10
_PAUSE_SECONDS = 0.005
_LOCK_TIMEOUT_SECONDS = 10.0

_HINTS = {
    errno.ENOENT: "its folder must exist; only the file itself is made",
    errno.EISDIR: "docker makes a folder where the file to mount is missing: remove it and start again",
    errno.EACCES: "run it as the owner of the file, or as root",
    errno.EPERM: "run it as the owner of the file, or as root",
    errno.EROFS: "it is mounted read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.ELOOP: "the symbolic link leads back to itself",
}
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

Edit = Callable[[bytes | None], bytes | None]
"""Takes the content of a file, None when there is no file, and returns the new one, None to leave it alone."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The outcome of ``rewrite``; of a dry run, the outcome that a run would have had.

    Attributes:
        path: the file, as it was given.
        old: what it held before; None when there was no file.
        new: what it holds now; empty when there is still no file.
        was_written: whether it was written; False when there was nothing to change.
        is_in_place: whether it is mounted by itself, and so not replaced but written in place.
        notices: what a person should know of the file, one line each.
    """

    path: Path
    old: bytes | None = field(repr=False)
    new: bytes = field(repr=False)
    was_written: bool
    is_in_place: bool
    notices: tuple[str, ...]

    @property
    def is_new_file(self) -> bool:
        """Whether the file was made, with mode 0600, and the broker's user may not read it yet."""
        return self.old is None and self.was_written


@dataclass(frozen=True, slots=True)
class _Task:
    path: Path
    target: Path
    edit: Edit
    lock_timeout_seconds: float
    new_file_owner: tuple[int, int] | None

    def outcome(
        self, old: bytes | None, new: bytes | None, *, in_place: bool, notices: tuple[str, ...] = ()
    ) -> Rewritten:
        """Describe what became of the file; ``new`` is None when it was left alone."""
        with suppress(OSError):  # the file is written by now
            notices += state_notices(self.path, self.target)
        was_written = new is not None
        return Rewritten(self.path, old, (old or b"") if new is None else new, was_written, in_place, notices)


def rewrite(
    path: Path,
    edit: Edit,
    *,
    lock_timeout_seconds: float = _LOCK_TIMEOUT_SECONDS,
    new_file_owner: tuple[int, int] | None = None,
    dry_run: bool = False,
) -> Rewritten:
    """Edit a file of Mosquitto's, whole or not at all.

    The change is first tried without lock, so that where there is nothing to do nothing need be writable;
    then it is tried again under the lock, and again when another program wrote the file meanwhile. The file
    keeps its owner, group, extended attributes and mode, but for write for all and execute; a symbolic link
    stays one. A missing file is made with mode 0600. Temporary files of killed runs are removed.

    Args:
        path: the file; its folder must exist.
        edit: makes the new content out of the old one; it may be called several times, and may refuse by
            raising a ``PlantopsError``. It must not write the file.
        lock_timeout_seconds: how long to wait for another run, or another program, on the same file.
        new_file_owner: uid and gid to give to a file that is made, if root makes it.
        dry_run: write nothing, and make no lock file.

    Raises:
        BrokerFileBusyError: another run held the lock, or another program had the file open for writing.
        BrokerFileChangedError: another program kept rewriting the file; it is as that one left it.
        BrokerFileError: the file cannot be read or replaced; it is as it was.
    """
    with _translated(path):
        task = _Task(path, follow_link(path), edit, lock_timeout_seconds, new_file_owner)
        return _look(task, dry_run=dry_run) or _rewrite(task)


def restore(rewritten: Rewritten) -> bool:
    """Undo a ``rewrite``: put the old content back, or remove the file if it was made.

    Args:
        rewritten: what ``rewrite`` returned.

    Returns:
        False when somebody changed the file meanwhile; it is as that one left it.

    Raises:
        BrokerFileError: as ``rewrite``.
    """
    old, path = rewritten.old, rewritten.path
    if not rewritten.was_written:
        return True
    if old is None:
        with _translated(path):
            return _remove(follow_link(path), rewritten.new)
    undo = rewrite(path, lambda content: old if content == rewritten.new else None)
    return undo.was_written


def _look(task: _Task, *, dry_run: bool) -> Rewritten | None:
    """Try the change and write nothing; None when there is something to write and this is no dry run."""
    in_place = is_mount_point(task.target)
    with opened_steady(task.target, timeout_seconds=task.lock_timeout_seconds) as file:
        old = None if file is None else _read(task.target, file)
        status = None if file is None else os.fstat(file)
    new = task.edit(old)
    if new is None or new == old:
        return task.outcome(old, None, in_place=in_place)
    if not in_place:
        check_folder(task.target)
    if not dry_run:
        return None
    # a dry run refuses what a run would refuse
    if in_place:
        check_writable(task.target)
    elif status is not None:
        check_replaceable(task.target, status)
    return task.outcome(old, new, in_place=in_place)


def _rewrite(task: _Task) -> Rewritten:
    if is_mount_point(task.target):
        return _rewrite_in_place(task)
    owner = _owner_of_lock(task)
    try:
        with locked(task.target, owner=owner, timeout_seconds=task.lock_timeout_seconds):
            _remove_orphans(task.target)
            return _rewrite_by_rename(task)
    except OSError as exc:
        if exc.errno != errno.EBUSY:
            raise
    return _rewrite_in_place(task)  # a mount that /proc does not tell of


def _rewrite_by_rename(task: _Task) -> Rewritten:
    for attempt in range(_ATTEMPTS):
        time.sleep(attempt * _PAUSE_SECONDS)
        with opened_steady(task.target, timeout_seconds=task.lock_timeout_seconds) as file:
            identity = None if file is None else _identity(os.fstat(file))
            old = None if file is None else _read(task.target, file)
            new = task.edit(old)
            if new is None or new == old:
                return task.outcome(old, None, in_place=False)
            notices = _replace(task, new, old=file, identity=identity)
        if notices is not None:
            return task.outcome(old, new, in_place=False, notices=notices)
    raise _changed(task.target)


def _rewrite_in_place(task: _Task) -> Rewritten:
    with opened_in_place(task.target, lock_timeout_seconds=task.lock_timeout_seconds) as file:
        notices = sort_out_backups(task.target, _read(task.target, file))
        for attempt in range(_ATTEMPTS):
            time.sleep(attempt * _PAUSE_SECONDS)
            identity = _identity(os.fstat(file))
            old = _read(task.target, file)
            new = task.edit(old)
            if new is None or new == old:
                return task.outcome(old, None, in_place=True, notices=notices)
            if _is_still(task.target, identity):
                overwrite(file, task.target, new, old=old)
                return task.outcome(old, new, in_place=True, notices=notices)
    raise _changed(task.target)


def _replace(
    task: _Task, content: bytes, *, old: int | None, identity: tuple[int, ...] | None
) -> tuple[str, ...] | None:
    """Put new content in place of the file and return notices; None when it is no longer the old file."""
    target = task.target
    if old is not None:
        check_replaceable(target, os.fstat(old))
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if old is None:
                notices = _give(file.fileno(), task.new_file_owner, target=target)
            else:
                notices = take_after(file.fileno(), old, target=target)
            # before the rename: after a power cut the new name must not lead to an empty file
            os.fsync(file.fileno())
        was_replaced = _put(temporary, target, old=old, identity=identity)
    finally:
        temporary.unlink(missing_ok=True)
    if was_replaced:
        _sync_folder(target.parent)
    return notices if was_replaced else None


def _put(temporary: Path, target: Path, *, old: int | None, identity: tuple[int, ...] | None) -> bool:
    if not _is_still(target, identity) or (old is not None and is_disturbed(old)):
        return False
    if old is None:
        try:
            # unlike a rename, this never takes the place of a file that another program made meanwhile
            target.hardlink_to(temporary)
        except FileExistsError:
            return False
        except OSError as exc:
            if exc.errno not in _NO_HARD_LINKS:
                raise
        else:
            return True
    temporary.replace(target)
    return True


def _give(descriptor: int, owner: tuple[int, int] | None, *, target: Path) -> tuple[str, ...]:
    status = os.fstat(descriptor)
    if owner is None or owner == (status.st_uid, status.st_gid):
        return ()
    try:
        os.fchown(descriptor, *owner)
    except PermissionError:
        return (f"{str(target)!r} could not be given to uid {owner[0]}, gid {owner[1]}: only root can do that",)
    return ()


def _remove(target: Path, content: bytes) -> bool:
    with (
        locked(target, owner=None, timeout_seconds=_LOCK_TIMEOUT_SECONDS),
        opened_steady(target, timeout_seconds=_LOCK_TIMEOUT_SECONDS) as file,
    ):
        if file is None or _read(target, file) != content or is_disturbed(file):
            return False
        target.unlink()
    _sync_folder(target.parent)
    return True


def _remove_orphans(target: Path) -> None:
    # whoever made them held the lock that is held now, and so is dead; one that should have lost its lock
    # fails for want of its file, and leaves the old one as it was
    name = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}\.tmp")
    for sibling in target.parent.iterdir():
        if name.fullmatch(sibling.name) is not None:
            with suppress(OSError):
                _remove_orphan(sibling, target)


def _remove_orphan(orphan: Path, target: Path) -> None:
    owners = {os.geteuid()}
    with suppress(FileNotFoundError):
        owners.add(target.lstat().st_uid)
    status = orphan.lstat()
    if stat.S_ISREG(status.st_mode) and status.st_uid in owners:
        orphan.unlink()


def _owner_of_lock(task: _Task) -> tuple[int, int]:
    """Those who may write the file are to be able to lock it, although root made the lock file."""
    try:
        status = task.target.lstat()
    except FileNotFoundError:
        if task.new_file_owner is not None:
            return task.new_file_owner
        status = task.target.parent.stat()
    return status.st_uid, status.st_gid


def _read(target: Path, file: int) -> bytes:
    check_regular(target, os.fstat(file))
    return read_whole(file)


def _is_still(target: Path, identity: tuple[int, ...] | None) -> bool:
    try:
        return _identity(target.lstat()) == identity
    except FileNotFoundError:
        return identity is None


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


def _changed(target: Path) -> BrokerFileChangedError:
    return BrokerFileChangedError(
        f"{str(target)!r} was rewritten by another program {_ATTEMPTS} times during the update",
        hint="try again when mosquitto_passwd, or what else writes it, has finished",
    )


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        where = "" if exc.filename in (None, path, str(path)) else f" at {str(exc.filename)!r}"
        reason = exc.strerror or type(exc).__name__
        hint = _HINTS.get(exc.errno or 0)
        raise BrokerFileError(f"cannot update {str(path)!r}: {reason}{where}", hint=hint) from exc
