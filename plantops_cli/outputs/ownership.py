"""Whose a file is: no link of a stranger's is followed, nothing that is there is taken for something new.

A stranger is who may put something into a folder only because everybody may: neither we, nor root, nor the owner
of the folder. It is the rule of ``fs.protected_symlinks`` (proc_sys_fs(5)), for every folder that all may write in
and on every system.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from plantops_cli.errors import ForeignFileError

_MOST_LINKS = 40  # as in path_resolution(7)
_ATTEMPTS = 10
_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# a FIFO must not be waited for before anybody could look at it
_THERE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def follow(path: Path) -> Path:
    """Return the path without links; the file itself need not be there.

    Args:
        path: of a file.

    Raises:
        ForeignFileError: one of the links is a stranger's.
        OSError: a folder is missing or may not be searched, or the links lead in a circle.
    """
    whole = Path.cwd() / path
    done, rest, count = Path(whole.anchor), [*reversed(whole.parts[1:])], 0
    while rest:
        part = rest.pop()
        here = done.parent if part == ".." else done / part
        try:
            status = here.lstat()
        except FileNotFoundError:
            if rest:
                raise
            return here
        if not stat.S_ISLNK(status.st_mode):
            done = here
            continue
        count += 1
        if count > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        if is_strangers(status, done):
            raise ForeignFileError(
                f"{str(here)!r} is a link of another user's, in a folder that everybody may write in",
                hint="remove it, or name a file in a folder of your own",
            )
        target = here.readlink()
        done = Path(target.anchor) if target.anchor else done
        rest += reversed(target.parts[1:] if target.anchor else target.parts)
    return done


def is_strangers(status: os.stat_result, folder: Path) -> bool:
    """Tell whether what is in a folder may have been put there by anybody.

    Args:
        status: that of the file or link itself.
        folder: where it is.
    """
    place = folder.stat()
    return bool(place.st_mode & stat.S_IWOTH) and status.st_uid not in {0, os.geteuid(), place.st_uid}


def create(path: Path, *, mode: int) -> int:
    """Make a file and open it for appending; nothing may be there yet, not even a dangling link.

    Raises:
        FileExistsError: something is there.
        OSError: it cannot be made.
    """
    return os.open(path, os.O_RDWR | os.O_APPEND | _NEW, mode)


def create_or_open(path: Path, *, mode: int) -> int:
    """Open a file for reading and appending, made if it is not there; a link is not followed.

    Args:
        path: the file.
        mode: of a new one, but for the umask.

    Raises:
        OSError: it is a link, or cannot be opened.
    """
    for _ in range(_ATTEMPTS):
        with suppress(FileExistsError):
            return create(path, mode=mode)
        with suppress(FileNotFoundError):  # removed at that very moment
            return os.open(path, os.O_RDWR | os.O_APPEND | _THERE)
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))


@contextmanager
def opened_to_read(path: Path) -> Iterator[int]:
    """Open a file without following a link or waiting for anything; it may be a FIFO or a folder all the same.

    Raises:
        OSError: it is a link, or cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | _THERE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
