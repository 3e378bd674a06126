"""What a reload would read, looked at before the broker is told to.

At SIGHUP Mosquitto 2.0 drops all access control when its ACL file is missing, unreadable or has one bad line, and
lets everybody in when the same befalls its password file and ``allow_anonymous`` is true; 2.1 ends.
"""

import os
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.acl import check_acl
from plantops_cli.mosquitto.conf import BrokerConfig, ReloadFile
from plantops_cli.mosquitto.findings import Finding, Weight
from plantops_cli.mosquitto.passwords import check_password_file
from plantops_cli.mosquitto.process import BrokerUser

_CHECKS: Mapping[str, Callable[[bytes], list[Finding]]] = {"password": check_password_file, "acl": check_acl}
_STRICT = (2, 1)
_TEST_SECONDS = 5.0


def check_reload(
    config: BrokerConfig,
    *,
    contents: Mapping[Path, bytes],
    reader: BrokerUser,
    version: tuple[int, int] | None,
    locate: Callable[[str], Path],
) -> tuple[str, ...]:
    """Make sure that the broker will survive a reload with its access control, and return what else was found.

    Args:
        config: the broker's configuration.
        contents: what is about to be written, by real path; judged in place of what is there.
        reader: as whom the broker reads its files.
        version: the broker's version; None when it is not known, which is judged as 2.1.
        locate: finds here what the broker knows by a path.

    Raises:
        BrokerFileError: a file would stop it; the message names the file and the line.
    """
    notices: list[str] = []
    for file in config.reload_files:
        path = locate(file.path)
        new = contents.get(Path(os.path.realpath(path)))
        if path.exists() or new is None:
            _check_readable(path, reader)
        if file.kind in _CHECKS:
            notices += _check_content(file, path, _read(path) if new is None else new, version)
    return tuple(notices)


def is_readable(path: Path, reader: BrokerUser) -> bool:
    """Tell whether a user may read a file, by asking the system as that user where we may.

    Args:
        path: the file.
        reader: the user.
    """
    if reader.uid == os.geteuid():
        return os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)
    if os.geteuid() == 0:
        asked = subprocess.run(  # noqa: S603  # a fixed program, and a path as one argument
            ["/usr/bin/test", "-r", path],
            user=reader.uid,
            group=reader.gid,
            extra_groups=list(reader.groups),
            env={},
            check=False,
            timeout=_TEST_SECONDS,
        )
        return asked.returncode == 0
    return all(_may(part, reader, stat.S_IXOTH) for part in path.absolute().parents) and _may(
        path, reader, stat.S_IROTH
    )


def _may(path: Path, reader: BrokerUser, bit: int) -> bool:
    status = path.stat()
    if reader.uid == status.st_uid:
        return bool(status.st_mode & bit << 6)
    if status.st_gid in (reader.gid, *reader.groups):
        return bool(status.st_mode & bit << 3)
    return bool(status.st_mode & bit)


def _check_readable(path: Path, reader: BrokerUser) -> None:
    if not path.exists():
        raise _refusal(f"{str(path)!r} is missing", "make it, or take it out of the configuration")
    if not path.is_file() and not path.is_dir():
        raise _refusal(f"{str(path)!r} is not a regular file", "the broker would wait for it for ever")
    if not is_readable(path, reader):
        raise _refusal(
            f"{str(path)!r} cannot be read by uid {reader.uid}, as which the broker runs", "chown or chmod it"
        )


def _check_content(file: ReloadFile, path: Path, content: bytes, version: tuple[int, int] | None) -> Iterator[str]:
    fatal = Weight.STOPS_ALL if version is not None and version < _STRICT else Weight.STOPS_21
    for finding in _CHECKS[file.kind](content):
        where = f"{str(path)!r}" + (f", line {finding.line}" if finding.line else "")
        if finding.weight >= fatal:
            raise _refusal(f"{where}: {finding.message}", "mend it first")
        if finding.weight is Weight.STOPS_21:
            yield f"{where}: {finding.message}; Mosquitto 2.1 would refuse the file"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise _refusal(f"{str(path)!r} cannot be checked: {exc.strerror}", "run it as root") from exc


def _refusal(what: str, hint: str) -> BrokerFileError:
    return BrokerFileError(
        f"{what}: a reload now could switch off all access control, or end the broker", hint=hint
    )
