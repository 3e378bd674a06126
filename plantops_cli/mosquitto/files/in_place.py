"""Writing into a file that cannot be replaced, because it is mounted by itself.

Whoever reads meanwhile, and whatever a kill leaves, is the old content or the new one, perhaps with blank
lines at the end: a file that grows is first filled up with line breaks, which also finds a full disk before
any harm is done; one write then brings the new text, filled up in the same way where it is shorter; the cut
comes last. Only a kill within that one write to a large file, or a power cut, can leave a mixture; for that
there is a backup.
"""

import errno
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import compress, count
from operator import ne
from pathlib import Path

from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.files.lock import lock_descriptor
from plantops_cli.mosquitto.files.traits import check_regular

_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def opened_in_place(target: Path, *, lock_timeout_seconds: float) -> Iterator[int]:
    """Open a file for writing and lock the file itself, which, never replaced, serves as its own lock.

    Raises:
        BrokerFileBusyError: another run held the lock for all of ``lock_timeout_seconds``.
        BrokerFileError: it is no regular file.
        OSError: it cannot be opened for writing.
    """
    descriptor = os.open(target, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        check_regular(target, os.fstat(descriptor))
        lock_descriptor(descriptor, target, timeout_seconds=lock_timeout_seconds)
        yield descriptor
    finally:
        os.close(descriptor)


def overwrite(descriptor: int, target: Path, new: bytes, *, old: bytes) -> None:
    """Write new content into an open file; when that fails the old content is put back.

    Args:
        descriptor: the file, open for reading and writing, and locked.
        target: its path.
        new: what it is to hold.
        old: what it holds.

    Raises:
        BrokerFileError: it failed, and the old content could not be put back; the message names the backup.
        OSError: it failed; the file is as it was.
    """
    backup = _make_backup(target, old, new)
    try:
        _write(descriptor, new, old=old)
    except BaseException as failure:
        _put_back(descriptor, target, old, backup=backup, failure=failure)
        _remove_backup(backup)
        raise
    _remove_backup(backup)


def sort_out_backups(target: Path, content: bytes) -> tuple[str, ...]:
    """Remove the backups that killed runs left beside a file, and return a notice of each that may be needed.

    One is not needed when the file holds what it held before that run, or what that run was to write. Must be
    called under the lock.
    """
    name = re.compile(rf"\.{re.escape(target.name)}\.(?P<digest>[0-9a-f]{{16}})\.[a-z0-9_]{{8}}\.backup")
    return tuple(
        f"a run was killed while it wrote {str(target)!r}; what it held before is in {str(backup)!r}:"
        " compare them, then remove that file"
        for backup in _siblings(target)
        if (found := name.fullmatch(backup.name)) and not _is_done_with(backup, found["digest"], content)
    )


def read_whole(descriptor: int) -> bytes:
    """Return all bytes of an open file."""
    return b"".join(_pieces(descriptor))


def _pieces(descriptor: int) -> Iterator[bytes]:
    offset = 0
    while piece := os.pread(descriptor, 1 << 20, offset):
        offset += len(piece)
        yield piece


def _write(descriptor: int, new: bytes, *, old: bytes) -> None:
    size = max(len(old), len(new))
    start, end = _difference(old.ljust(size, b"\n"), new.ljust(size, b"\n"))
    if len(new) > len(old):
        start, end = min(start, len(old)), size
        # room first: a full disk then shows while not a byte of the old content is touched
        if start < len(old):
            _write_all(descriptor, b"\n" * (size - len(old)), offset=len(old))
            os.fsync(descriptor)
    _write_all(descriptor, new.ljust(size, b"\n")[start:end], offset=start)
    os.fsync(descriptor)
    # the cut last: what it takes away are blank lines by now
    if len(new) < len(old):
        os.ftruncate(descriptor, len(new))
        os.fsync(descriptor)


def _difference(one: bytes, other: bytes) -> tuple[int, int]:
    """Return where two texts of one length begin and end to differ."""
    start = next(compress(count(), map(ne, one, other)), len(one))
    same_at_end = next(compress(count(), map(ne, reversed(one), reversed(other))), 0)
    return start, max(start, len(one) - same_at_end)


def _write_all(descriptor: int, data: bytes, *, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _put_back(descriptor: int, target: Path, old: bytes, *, backup: Path, failure: BaseException) -> None:
    try:
        # cut first: what was only added needs no more, and the blocks of the old content are still there
        os.ftruncate(descriptor, min(len(old), os.fstat(descriptor).st_size))
        if read_whole(descriptor) != old:
            _write_all(descriptor, old, offset=0)
        os.fsync(descriptor)
    except OSError as exc:
        raise BrokerFileError(
            f"{str(target)!r} is damaged: {failure}, and then {exc.strerror}",
            hint=f"what it held before is in {str(backup)!r}",
        ) from exc


def _make_backup(target: Path, old: bytes, new: bytes) -> Path:
    digest = _digest(new)
    try:
        descriptor, name = _make_file(target, digest, folder=target.parent)
    except OSError as exc:
        if exc.errno not in _UNWRITABLE:
            raise
        folder = tempfile.mkdtemp(prefix="plantops-")
        descriptor, name = _make_file(target, digest, folder=Path(folder))
    backup = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(old)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        _remove_backup(backup)
        raise
    return backup


def _make_file(target: Path, digest: str, *, folder: Path) -> tuple[int, str]:
    return tempfile.mkstemp(prefix=f".{target.name}.{digest}.", suffix=".backup", dir=folder)


def _remove_backup(backup: Path) -> None:
    # the file is written: a backup that stays is sorted out by the next run
    with suppress(OSError):
        backup.unlink()
    if backup.parent.name.startswith("plantops-"):
        with suppress(OSError):
            backup.parent.rmdir()


def _siblings(target: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(target.parent.iterdir())
    return []


def _is_done_with(backup: Path, digest: str, content: bytes) -> bool:
    try:
        if not stat.S_ISREG(backup.lstat().st_mode) or backup.lstat().st_uid != os.geteuid():
            return True  # none of ours
        old = backup.read_bytes()
        # an empty or cut backup is of a run that was killed before it wrote anything else
        is_done_with = old.rstrip(b"\n") == content.rstrip(b"\n") or _digest(content) == digest
        if is_done_with or (len(old) < len(content) and content.startswith(old)):
            backup.unlink()
            return True
    except OSError:
        return True
    return False


def _digest(content: bytes) -> str:
    return hashlib.sha256(content.rstrip(b"\n")).hexdigest()[:16]
