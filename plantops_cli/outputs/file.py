"""JSON lines in a file, of which none is lost: on disk when ``append`` returns, whole or not at all.

``LineFile`` blocks, and is therefore called in a thread by ``FileDestination``. Closed files are compressed with
gzip, for it needs no further dependency and every tool reads it. A file that is there already is continued only
when we have written it.
"""

import asyncio
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from plantops_cli.errors import ConfigError, ForeignFileError, NoRoomError, OutputError
from plantops_cli.outputs.closed import Packer, claim_name, sync_folder, tidy
from plantops_cli.outputs.ownership import create_or_open, follow, is_strangers
from plantops_cli.outputs.tail import whole_bytes
from plantops_cli.stream.waiting import unless

_CLOSE_SECONDS = 5.0
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ROOM_SECONDS = 1.0


class LineFile:
    """A file that grows by whole lines.

    Args:
        path: a regular file, made if it is not there, or a link to one; its closed files stand beside the file.
        rotate_bytes: begin a new file before this one would become longer; None: never.
        rotate_seconds: begin a new file at each multiple of this since 1970 in UTC; None: never.
        clock: the present moment in seconds since 1970.

    Attributes:
        path: the file, without links since it was opened.
        notices: what a person should know since ``open``, a line each.
    """

    def __init__(
        self,
        path: Path,
        *,
        rotate_bytes: int | None = None,
        rotate_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.notices: list[str] = []
        self._rotate_bytes = rotate_bytes
        self._rotate_seconds = rotate_seconds
        self._clock = clock
        self._descriptor = -1
        self._mode = 0o644
        self._period = 0
        self._begun_at: int | None = None
        self._packer: Packer | None = None

    def open(self) -> None:
        """Open the file, cut off what a crash has left of a last line, and finish what it interrupted.

        Raises:
            ForeignFileError: it holds something else than our lines, or is a stranger's; it is untouched.
            ConfigError: it is no regular file, is in use by another plantops, or cannot be opened.
        """
        try:
            self._descriptor = self._open()
            if self._rotate_bytes is not None or self._rotate_seconds is not None:
                owner = os.fstat(self._descriptor).st_uid
                tidy(self.path, owners={os.geteuid(), owner})
                self._packer = Packer()
                self._packer.start(self.path, owner=owner)
        except OSError as exc:
            raise ConfigError(
                f"{str(self.path)!r}: {exc.strerror}",
                hint="name a file that you may write, in a folder that is there",
            ) from exc

    def append(self, lines: bytes) -> None:
        """Write whole lines; they are on disk when it returns, and not in the file at all when it raises.

        When the file is moved away at that very moment, they may be both in it and in the new one.

        Args:
            lines: whole lines.

        Raises:
            NoRoomError: the disk is full; try again with the same lines when there is room.
            OutputError: the disk failed in another way.
            ForeignFileError: what has come to the place of the file is not ours.
            ConfigError: it is no regular file, or another plantops uses it.
        """
        try:
            self._take_back()
            self._follow()
            self._rotate_if_due(len(lines))
            self._write(lines)
            # whoever has moved the file away meanwhile may have read it before these lines were in it
            while self._follow():
                self._write(lines)
        except OSError as exc:
            kind = NoRoomError if exc.errno in _NO_ROOM else OutputError
            raise kind(f"cannot write {str(self.path)!r}: {exc.strerror}") from exc

    def close(self) -> None:
        """Close the file; a compression is waited for a while, and else ended by the next run."""
        if self._packer:
            self._packer.join(_CLOSE_SECONDS)
        # not before, for the next run compresses what this one has left
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> int:
        target = follow(self.path)  # to rename the link to it, if it is one, would close nothing
        with suppress(FileNotFoundError):
            self._check_regular(self.path.stat())
        descriptor = create_or_open(target, mode=self._mode)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(descriptor)
            self._check_regular(status)
            self._check_ours(target, status)
            self._repair(descriptor, status)
            self.path = target
            self._mode = stat.S_IMODE(status.st_mode)  # of the next file too: what only some may read, stays so
            sync_folder(self.path)
            return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise ConfigError(
                f"{str(self.path)!r} is written by another plantops", hint="one file for each listener"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise

    def _check_regular(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise ConfigError(
                f"{str(self.path)!r} is not a regular file",
                hint="use standard output: > FILE",
            )

    def _check_ours(self, target: Path, status: os.stat_result) -> None:
        """Refuse a file that a stranger has put there, to read what is written or to have it written elsewhere."""
        has_other_name = status.st_nlink > 1 and target.parent.stat().st_mode & stat.S_IWOTH
        if has_other_name or is_strangers(status, target.parent):
            raise ForeignFileError(
                f"{str(self.path)!r} may be another user's, in a folder that everybody may write in",
                hint="name a file in a folder of your own; this one is untouched",
            )

    def _repair(self, descriptor: int, status: os.stat_result) -> None:
        """Take off what a crash has left of a last line.

        Args:
            descriptor: the file.
            status: as it was found, for to cut it makes it new.
        """
        whole, size = whole_bytes(descriptor), status.st_size
        if whole is None:
            raise ForeignFileError(
                f"{str(self.path)!r} does not end in lines of plantops",
                hint="name another file, or move this one away; it is untouched",
            )
        if whole < size:
            os.ftruncate(descriptor, whole)
            os.fsync(descriptor)
            self.notices.append(
                f"{str(self.path)!r} ended in a cut line of {size - whole} bytes, which was taken off: "
                "it was never acknowledged"
            )
        self._period = self._period_of(status.st_mtime if whole else self._clock())

    def _write(self, lines: bytes) -> None:
        self._begun_at = os.fstat(self._descriptor).st_size
        try:
            view = memoryview(lines)
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fsync(self._descriptor)
        except OSError:
            # what a failed fsync has left in memory may never reach the disk: it is taken out and written anew
            with suppress(OSError):
                self._take_back()
            raise
        self._begun_at = None

    def _take_back(self) -> None:
        """Take out of the file what a failed write has left in it; else the next line would continue a cut one."""
        if self._begun_at is not None:
            os.ftruncate(self._descriptor, self._begun_at)
            self._begun_at = None

    def _follow(self) -> bool:
        """Begin the file anew when somebody has moved it away, as logrotate does, and tell whether it was so."""
        if self._descriptor >= 0:
            with suppress(FileNotFoundError):
                if os.path.samestat(self.path.lstat(), os.fstat(self._descriptor)):
                    return False
            os.close(self._descriptor)
            self._descriptor = -1
        self._descriptor = self._open()
        return True

    def _rotate_if_due(self, size: int) -> None:
        length = os.fstat(self._descriptor).st_size
        period = self._period_of(self._clock())
        is_too_long = self._rotate_bytes is not None and length + size > self._rotate_bytes
        if length and (is_too_long or period != self._period):
            self._close_full()
            self._descriptor = self._open()
        self._period = period

    def _period_of(self, moment: float) -> int:
        return int(moment // self._rotate_seconds) if self._rotate_seconds else 0

    def _close_full(self) -> None:
        closed = claim_name(self.path, self._clock())
        try:
            self.path.rename(closed)
        except OSError:
            with suppress(OSError):
                closed.unlink()
            raise
        owner = os.fstat(self._descriptor).st_uid
        os.close(self._descriptor)
        self._descriptor = -1
        if self._packer:
            self._packer.start(self.path, owner=owner)


class FileDestination:
    """Writes lines to a file, on disk when ``write`` returns; waits while the disk is full.

    Args:
        file: the file; it is opened here.
        tell: told what a person should know, a line each time.

    Raises:
        ForeignFileError: it is not ours.
        ConfigError: it cannot be opened.
    """

    is_prompt = False  # a disk takes its time

    def __init__(self, file: LineFile, tell: Callable[[str], None]) -> None:
        self._file = file
        self._tell = tell
        file.open()
        self._tell_notices()

    async def write(self, data: bytes, *, stopped: asyncio.Event) -> int:
        """Write ``data`` and return how many bytes were written: all, or none when stopped while the disk is full.

        Args:
            data: whole lines.
            stopped: once it is set, room is not waited for.

        Raises:
            ForeignFileError: what has come to the place of the file is not ours.
            OutputError: the disk failed in another way than by being full.
        """
        is_told = False
        while data:
            try:
                await asyncio.to_thread(self._file.append, data)
            except NoRoomError as exc:
                if not is_told:
                    self._tell(f"{exc}: waiting for room, and acknowledging nothing")
                    is_told = True
                await unless(stopped, asyncio.sleep(_ROOM_SECONDS))
                if stopped.is_set():
                    return 0
            else:
                break
        self._tell_notices()
        if is_told:
            self._tell(f"there is room again for {str(self._file.path)!r}")
        return len(data)

    def write_at_once(self, data: bytes) -> bool:  # noqa: ARG002  # as a Destination has it
        """Write nothing, and return False."""
        return False

    def on_reader_gone(self, callback: Callable[[], None]) -> None:
        """Do nothing, for a file needs no reader."""

    def close(self) -> None:
        """Close the file, in a thread that the end of the event loop waits for."""
        asyncio.get_running_loop().run_in_executor(None, self._file.close)

    def _tell_notices(self) -> None:
        while self._file.notices:
            self._tell(f"note: {self._file.notices.pop(0)}")
