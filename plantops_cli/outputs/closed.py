"""Closed files of a rotated one: the names they get, and their compression with gzip in a thread of its own.

In the folder there may be anything under any name: what is made is made exclusively, and only what we have written
is compressed or removed.
"""

import errno
import gzip
import os
import re
import shutil
import stat
import threading
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import BinaryIO

from plantops_cli.outputs.ownership import create, opened_to_read
from plantops_cli.outputs.tail import whole_bytes

_BLOCK_BYTES = 64 * 1024
_STAMP = r"\.\d{8}T\d{6}Z"
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def claim_name(path: Path, seconds: float) -> Path:
    """Find a name for a file that is to be closed, and keep it by an empty file, which a rename replaces.

    Args:
        path: the file.
        seconds: the moment that the name tells, since 1970.

    Raises:
        OSError: no file can be made there.
    """
    stamped = f"{path.name}.{datetime.fromtimestamp(seconds, UTC):%Y%m%dT%H%M%SZ}"
    for name in chain([stamped], (f"{stamped}.{number}" for number in count(1))):
        closed = path.with_name(name)
        if not os.path.lexists(_packed(closed)):
            with suppress(FileExistsError):
                os.close(create(closed, mode=0o600))
                return closed
    raise AssertionError  # there is always a next number


def tidy(path: Path, *, owners: Collection[int]) -> None:
    """Remove what killed runs have left beside a file: halves of compressed files, and names that were kept.

    Must be called before anything is closed or compressed.

    Args:
        path: the file, opened and locked.
        owners: the users whose files are ours.
    """
    closed = re.compile(rf"{re.escape(path.name)}{_STAMP}(\.\d+)?(?P<half>\.gz(\.\d+)?\.part)?")
    for entry in path.parent.iterdir():
        if found := closed.fullmatch(entry.name):
            with suppress(OSError):
                status = entry.lstat()
                is_ours = stat.S_ISREG(status.st_mode) and status.st_uid in owners
                if is_ours and (found["half"] or not status.st_size):
                    entry.unlink()


class Packer:
    """Compresses closed files, one after another."""

    def __init__(self) -> None:
        self._path = Path()
        self._owners = {os.geteuid()}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_due = False

    def start(self, path: Path, *, owner: int) -> None:
        """Compress what is closed by now, and return at once.

        Args:
            path: the file that was rotated.
            owner: the user whom it belonged to; of those told here, and of ourselves, a closed file may be.
        """
        with self._lock:
            self._path = path
            self._owners = self._owners | {owner}
            self._is_due = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._pack_while_due, name="plantops-gzip", daemon=True)
                self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait a while until all is compressed."""
        if thread := self._thread:
            thread.join(seconds)

    def _pack_while_due(self) -> None:
        while self._is_more_due():
            # what cannot be compressed is left as it is, and tried again at the next rotation
            with suppress(OSError):
                self._pack_all()

    def _is_more_due(self) -> bool:
        """Tell whether a file was closed since this was asked last; the thread ends when there was none."""
        with self._lock:
            is_due, self._is_due = self._is_due, False
            if not is_due:
                self._thread = None
            return is_due

    def _pack_all(self) -> None:
        closed = re.compile(re.escape(self._path.name) + _STAMP + r"(\.\d+)?")
        for path in sorted(self._path.parent.iterdir()):
            if closed.fullmatch(path.name):
                with suppress(OSError):
                    _compress(path, self._owners)


def _packed(closed: Path, number: int = 0) -> Path:
    return closed.with_name(f"{closed.name}.gz" if not number else f"{closed.name}.{number}.gz")


def _compress(path: Path, owners: Collection[int]) -> None:
    """Replace a closed file of ours by its gzip; at each moment one of the two is there and whole."""
    with opened_to_read(path) as descriptor:
        if not _is_ours(descriptor, owners):
            return
        if not _is_packed(descriptor, _packed(path), owners):
            _pack(descriptor, path)
            sync_folder(path)
        if os.path.samestat(path.lstat(), os.fstat(descriptor)):
            path.unlink()


def _pack(descriptor: int, path: Path) -> None:
    with _draft(path) as (begun, target), open(descriptor, "rb", closefd=False) as source:
        with gzip.GzipFile(filename=path.name, mode="wb", fileobj=target) as packer:
            shutil.copyfileobj(source, packer, _BLOCK_BYTES)
        target.flush()
        os.fchmod(target.fileno(), os.fstat(descriptor).st_mode & 0o777)
        os.fsync(target.fileno())
        _place(begun, path)


def _is_ours(descriptor: int, owners: Collection[int]) -> bool:
    """Tell whether a file holds lines that we wrote, and has no second name by which it may be something else."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid not in owners or status.st_nlink != 1:
        return False
    return 0 < status.st_size == whole_bytes(descriptor)


def _is_packed(descriptor: int, packed: Path, owners: Collection[int]) -> bool:
    """Tell whether a run has compressed the file, and was killed before it could remove it."""
    try:
        with opened_to_read(packed) as found:
            status = os.fstat(found)
            if not stat.S_ISREG(status.st_mode) or status.st_uid not in owners:
                return False
            with gzip.GzipFile(fileobj=open(found, "rb", closefd=False)) as unpacked:
                return all(unpacked.read(len(block) or 1) == block for block in _blocks(descriptor))
    except (OSError, EOFError, zlib.error):
        return False


def _blocks(descriptor: int) -> Iterator[bytes]:
    """Read a file; the last block is empty."""
    position, block = 0, b"?"
    while block:
        block = os.pread(descriptor, _BLOCK_BYTES, position)
        position += len(block)
        yield block


@contextmanager
def _draft(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open a new file for the compressed one, which nobody else may read before it is whole."""
    for number in count():
        begun = path.with_name(f"{path.name}.gz.part" if not number else f"{path.name}.gz.{number}.part")
        try:
            descriptor = create(begun, mode=0o600)
        except FileExistsError:
            continue
        break
    try:
        with os.fdopen(descriptor, "wb") as target:
            yield begun, target
    finally:
        with suppress(FileNotFoundError):
            begun.unlink()  # half of it would keep a full disk full


def _place(begun: Path, closed: Path) -> None:
    """Give a compressed file its name, or the next one that is free."""
    for number in count():
        packed = _packed(closed, number)
        with suppress(FileExistsError):
            _put(begun, packed)
            return


def _put(begun: Path, packed: Path) -> None:
    try:
        # unlike a rename, this never takes the place of what is there
        os.link(begun, packed, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(packed):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(packed)) from exc
        begun.rename(packed)


def sync_folder(path: Path) -> None:
    """Bring the name of a file to the disk.

    Raises:
        OSError: its folder cannot be read.
    """
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
