"""What a file is besides its content: a link or not, whose, for whom, where; what of it a new file takes on."""

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from plantops_cli.errors import BrokerFileError

_MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(rb"\\([0-7]{3})")
_MOST_LINKS = 40

_ACL = "system.posix_acl_access"
# made by the kernel for one content of the file, and wrong for any other
_TIED_TO_CONTENT = {"security.ima", "security.evm"}
_NO_ATTRIBUTES = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def follow_link(path: Path) -> Path:
    """Return the file that a path leads to.

    Raises:
        BrokerFileError: it is a link to nothing, one of a Kubernetes volume, or a stranger's.
        OSError: its links lead in a circle.
    """
    if any("..data" in step.parts for step in _steps(path)):
        raise BrokerFileError(
            f"{str(path)!r} belongs to a Kubernetes volume, which is read-only and would lose the change",
            hint="change the Secret, or copy the file to a volume that can be written",
        )
    if not path.is_symlink():
        return path
    # whoever placed the link must not choose where hashes go
    if any(_is_strangers_link(step) for step in _steps(path)):
        raise BrokerFileError(
            f"{str(path)!r} is a link of another user's, in a folder that everybody may write in",
            hint="remove it, or name the file that is meant",
        )
    try:
        return Path(os.path.realpath(path, strict=True))
    except FileNotFoundError as exc:
        # nor may whoever placed it choose where a file is made
        raise BrokerFileError(
            f"{str(path)!r} is a symbolic link to a file that does not exist",
            hint="create that file, or remove the link",
        ) from exc


def is_mount_point(target: Path) -> bool:
    """Tell whether the file is mounted by itself, as by ``docker run -v FILE:FILE``; False where unknown."""
    try:
        mounts = _MOUNTS.read_bytes()
    except OSError:
        return False
    wanted = os.path.realpath(os.fsencode(target))
    points = (fields[4] for line in mounts.splitlines() if len(fields := line.split()) > 4)
    return any(_unescape(point) == wanted for point in points)


def check_regular(target: Path, status: os.stat_result) -> None:
    """Refuse what only looks like a file.

    Raises:
        BrokerFileError: it is a FIFO, a device or a socket.
        IsADirectoryError: it is a folder.
    """
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if not stat.S_ISREG(status.st_mode):
        raise BrokerFileError(f"{str(target)!r} is not a regular file")


def check_folder(target: Path) -> None:
    """Refuse a folder in which no new file can be made.

    Raises:
        BrokerFileError: it is not writable for this user.
        OSError: there is none.
    """
    folder = target.parent
    folder.stat()
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise BrokerFileError(
            f"cannot update {str(target)!r}: nothing can be written in its folder",
            hint="a new file is prepared there: run it as the owner of the folder, or as root",
        )


def check_writable(target: Path) -> None:
    """Refuse a file that is to be written in place and cannot be.

    Raises:
        OSError: this user may not write it, or it is mounted read-only.
    """
    if os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        return
    is_read_only = os.statvfs(target).f_flag & os.ST_RDONLY
    code = errno.EROFS if is_read_only else errno.EACCES
    raise OSError(code, os.strerror(code), str(target))


def check_replaceable(target: Path, status: os.stat_result) -> None:
    """Refuse a file whose replacement would not be the same to everybody.

    Raises:
        BrokerFileError: it has several hard links, or an owner or group that this user cannot give it again.
    """
    if status.st_nlink > 1:
        raise BrokerFileError(
            f"{str(target)!r} has {status.st_nlink} hard links, and a new file would leave the others behind",
            hint="keep one of them, or use symbolic links",
        )
    if os.geteuid() == 0:
        return
    is_inherited = target.parent.stat().st_mode & stat.S_ISGID
    is_ours = status.st_gid in {os.getegid(), *os.getgroups()} or is_inherited
    if status.st_uid != os.geteuid() or not is_ours:
        raise _owner_would_change(target, status)


def take_after(descriptor: int, old: int, *, target: Path) -> tuple[str, ...]:
    """Give a new file owner, group, extended attributes and mode of an old one, and return notices.

    Args:
        descriptor: the new file.
        old: the old file.
        target: its path.

    Raises:
        BrokerFileError: owner, group, security label or access list cannot be kept.
    """
    status, mine = os.fstat(old), os.fstat(descriptor)
    if (mine.st_uid, mine.st_gid) != (status.st_uid, status.st_gid):
        try:
            os.fchown(descriptor, status.st_uid, status.st_gid)
        except PermissionError as exc:
            raise _owner_would_change(target, status) from exc
    notices = tuple(_take_attributes(descriptor, old, target=target))
    # after the access list, which brings bits of the mode with it
    mode = stat.S_IMODE(status.st_mode)
    os.fchmod(descriptor, kept_mode(mode))
    if kept_mode(mode) != mode:
        notices += (f"the mode of {str(target)!r} was {mode:04o} and is {kept_mode(mode):04o} now",)
    return notices


def kept_mode(mode: int) -> int:
    """Return the permissions without those that no file of Mosquitto's needs: write for all, and execute.

    Read for all stays: a broker may depend on it.
    """
    return mode & 0o664


def state_notices(path: Path, target: Path) -> tuple[str, ...]:
    """Say what a person should know of where a file is, or will be, and who may use it.

    Args:
        path: the file as given.
        target: where that leads.

    Raises:
        OSError: its folder cannot be examined.
    """
    return tuple(_state_notices(path, target))


def _state_notices(path: Path, target: Path) -> Iterator[str]:
    mode = target.stat().st_mode if target.exists() else 0
    if path.is_symlink():
        yield (
            f"{str(path)!r} is a symbolic link, which Mosquitto 2.1 refuses"
            " unless MOSQUITTO_UNSAFE_ALLOW_SYMLINKS is set"
        )
    if target.parent.stat().st_mode & 0o022:
        yield f"other users can write to {str(target.parent)!r}, and so replace the file by one of theirs"
    if mode & 0o002:
        yield f"every user of this machine can write {str(target)!r}: chmod o-w"
    if mode & 0o004:
        yield (
            f"every user of this machine can read {str(target)!r}, with any hashes in it;"
            " once the broker's user owns it: chmod 640"
        )


def _steps(path: Path) -> Iterator[Path]:
    """The path, and what its links lead to one after the other."""
    for _ in range(_MOST_LINKS):
        yield path
        if not path.is_symlink():
            return
        path = path.parent / path.readlink()


def _is_strangers_link(path: Path) -> bool:
    """Tell whether a path is a link that anybody may have put there, by the rule of ``fs.protected_symlinks``."""
    if not path.is_symlink():
        return False
    folder = path.parent.stat()
    return bool(folder.st_mode & stat.S_IWOTH) and path.lstat().st_uid not in {0, os.geteuid(), folder.st_uid}


def _unescape(point: bytes) -> bytes:
    # proc(5): blanks and backslashes in a path are octal
    return _OCTAL.sub(lambda found: bytes([int(found[1], 8)]), point)


def _owner_would_change(target: Path, status: os.stat_result) -> BrokerFileError:
    return BrokerFileError(
        f"{str(target)!r} belongs to uid {status.st_uid}, gid {status.st_gid}, and would not any more",
        hint="run it as that user, or as root",
    )


def _take_attributes(descriptor: int, old: int, *, target: Path) -> Iterator[str]:
    if sys.platform != "linux":
        return
    wanted, present = _attributes(old), _attributes(descriptor)
    if _ACL in present and _ACL not in wanted:
        os.removexattr(descriptor, _ACL)  # of the folder's default list: it may admit whom the old file did not
    for name, value in wanted.items():
        if present.get(name) == value:
            continue
        try:
            os.setxattr(descriptor, name, value)
        except OSError as exc:
            if name == _ACL or name.startswith("security."):
                raise BrokerFileError(
                    f"{str(target)!r} has the attribute {name}, which a new file would not have: {exc.strerror}",
                    hint="run it as root",
                ) from exc
            yield f"the extended attribute {name} of {str(target)!r} was lost: {exc.strerror}"


def _attributes(descriptor: int) -> dict[str, bytes]:
    if sys.platform != "linux":
        return {}
    try:
        names = set(os.listxattr(descriptor)) - _TIED_TO_CONTENT
        return {name: os.getxattr(descriptor, name) for name in sorted(names)}
    except OSError as exc:
        if exc.errno in _NO_ATTRIBUTES:
            return {}
        raise
