"""What a reload would read, looked at before the broker is told to.

At SIGHUP Mosquitto 2.0 drops all access control when its ACL file is missing, unreadable or has one bad line, and
lets everybody in when the same befalls its password file and ``allow_anonymous`` is true; 2.1 ends. An unreadable
or broken configuration stops neither: both go on with the old one.
"""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.broker.process import BrokerUser
from plantops_cli.mosquitto.broker.witness import Witness
from plantops_cli.mosquitto.text.acl import check_acl
from plantops_cli.mosquitto.text.conf import BrokerConfig, FileKind, ReloadFile
from plantops_cli.mosquitto.text.lint import FileFault, Weight
from plantops_cli.mosquitto.text.passwords import check_password_file
from plantops_cli.mosquitto.text.psk import check_psk_file

_STRICT = (2, 1)
_TEST_SECONDS = 5.0
_ROOT_PARTS = 4  # "/", "proc", PID, "root"


def check_reload(
    config: BrokerConfig,
    *,
    contents: Mapping[Path, bytes],
    reader: BrokerUser | None,
    version: tuple[int, int] | None,
    locate: Callable[[str], Path],
    witness: Witness | None = None,
    new_file_owner: tuple[int, int] | None = None,
) -> tuple[str, ...]:
    """Make sure that the broker will survive a reload with its access control, and return what else was found.

    Args:
        config: the broker's configuration.
        contents: what is about to be written, by path; judged in place of what is there.
        reader: as whom the broker reads its files; None when it is not known, so that only a missing file counts.
        version: the broker's version; None when it is not known, which is judged as 2.1.
        locate: finds here what the broker knows by a path.
        witness: the running broker, which may show that it takes what our rules would refuse; None to go by
            the rules alone.
        new_file_owner: uid and gid that a file which is made now will have; None for ours.

    Raises:
        BrokerFileError: a file would stop it, or cannot be checked; the message names the file and the line.
    """
    notices: list[str] = []
    for file in config.reload_files:
        path = locate(file.path)
        danger = _danger(file.kind, version, is_open=config.allow_anonymous)
        try:
            new = _new_content(path, contents)
            _check_readable(
                file, path, reader, danger, new_owner=_owner(new_file_owner) if new is not None else None
            )
            if file.kind in _CHECKS:
                content = path.read_bytes() if new is None else new
                notices += _check_content(file, path, content, version, danger, witness)
        except OSError as exc:
            raise BrokerFileError(
                f"{str(path)!r} cannot be checked: {exc.strerror or type(exc).__name__}", hint="run it as root"
            ) from exc
    return tuple(notices)


def is_readable(path: Path, reader: BrokerUser) -> bool:
    """Tell whether a user may read a file: root asks the system as that user, others go by the mode bits.

    Args:
        path: the file; without symbolic links below ``/proc/PID/root``.
        reader: the user.
    """
    if reader.reads_all:
        return True
    if reader.uid == os.geteuid():
        return os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)
    if os.geteuid() == 0:
        return _is_readable_in_truth(path, reader)
    status = path.stat()
    folders = [folder.stat() for folder in path.resolve().parents]
    return may(reader, status, stat.S_IROTH) and all(may(reader, folder, stat.S_IXOTH) for folder in folders)


def may(user: BrokerUser, status: os.stat_result, bit: int) -> bool:
    """Tell by the mode alone whether a user may do something to a file (path_resolution(7)).

    Args:
        user: the user.
        status: the file's.
        bit: what, as the bit for all others: ``S_IROTH`` or ``S_IXOTH``.
    """
    if user.uid == 0:
        return True
    if user.uid == status.st_uid:
        return bool(status.st_mode & bit << 6)
    if status.st_gid in (user.gid, *user.groups):
        return bool(status.st_mode & bit << 3)
    return bool(status.st_mode & bit)


def is_same_file(path: Path, other: Path) -> bool:
    """Tell whether two paths lead to the same file, or to the same place where there is none yet.

    Their resolved names would not tell: they take ``/proc/PID/root`` for our own root folder.

    Args:
        path: a file.
        other: another one.
    """
    if path.exists() and other.exists():
        return path.samefile(other)
    if path.exists() or other.exists() or path.name != other.name:
        return False
    return path.parent.exists() and other.parent.exists() and path.parent.samefile(other.parent)


_CHECKS: Mapping[str, Callable[[bytes], list[FileFault]]] = {
    "password": check_password_file,
    "acl": check_acl,
    "psk": check_psk_file,
}


def _is_readable_in_truth(path: Path, reader: BrokerUser) -> bool:
    # /proc/PID/root itself is closed to the broker's own user: stand in it first, then become that user
    root, inside = _split_at_root(path)
    program = shutil.which("test", path="/usr/bin:/bin")
    if program is None:
        raise FileNotFoundError("test")
    try:
        asked = subprocess.run(  # noqa: S603 - test(1), with a path of the broker's configuration
            [program, "-r", f"./{inside}"],
            cwd=root,
            user=reader.uid,
            group=reader.gid,
            extra_groups=list(reader.groups),
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_TEST_SECONDS,
        )
    except subprocess.SubprocessError as exc:
        raise OSError(f"test -r as uid {reader.uid}: {type(exc).__name__}") from exc
    return asked.returncode == 0


def _split_at_root(path: Path) -> tuple[Path, Path]:
    parts = path.absolute().parts
    length = _ROOT_PARTS if parts[1:2] == ("proc",) and parts[3:4] == ("root",) else 1
    return Path(*parts[:length]), Path(*parts[length:])


def _new_content(path: Path, contents: Mapping[Path, bytes]) -> bytes | None:
    return next((content for written, content in contents.items() if is_same_file(path, written)), None)


def _owner(new_file_owner: tuple[int, int] | None) -> int:
    return os.geteuid() if new_file_owner is None else new_file_owner[0]


def _check_readable(
    file: ReloadFile, path: Path, reader: BrokerUser | None, danger: str, *, new_owner: int | None
) -> None:
    if not path.exists():
        if new_owner is None:
            raise _refusal(f"{str(path)!r} is missing", danger, "make it, or take it out of the configuration")
        if reader is not None and reader.uid not in (0, new_owner):  # it will have the mode 0600
            raise _refusal(
                f"{str(path)!r} would be made for uid {new_owner}, but the broker runs as uid {reader.uid}",
                danger,
                "name the broker's user as its owner",
            )
        return
    if not (path.is_dir() if file.kind == "capath" else path.is_file()):
        raise _refusal(f"{str(path)!r} is not a {'folder' if file.kind == 'capath' else 'regular file'}", danger)
    if reader is not None and not is_readable(path, reader):
        raise _refusal(
            f"{str(path)!r} cannot be read by uid {reader.uid}, as which the broker runs",
            danger,
            "chown or chmod it",
        )


def _check_content(
    file: ReloadFile,
    path: Path,
    content: bytes,
    version: tuple[int, int] | None,
    danger: str,
    witness: Witness | None,
) -> Iterator[str]:
    least = Weight.STOPS_ALL if version is not None and version < _STRICT else Weight.STOPS_21
    faults = _CHECKS[file.kind](content)
    fatal = [fault for fault in faults if fault.weight >= least]
    if fatal:
        excuse = _excuse(file.kind, path, content, fatal, least, witness) if witness else None
        if excuse is None:
            raise _refusal(_place(path, fatal[0]), danger, "mend it first")
        others = f", and {len(fatal) - 1} more like it" if len(fatal) > 1 else ""
        yield f"{_place(path, fatal[0])}{others}; {excuse}"
        return
    for fault in faults:
        if fault.weight is Weight.STOPS_21:
            yield f"{_place(path, fault)}; Mosquitto 2.1 would refuse the file"


def _place(path: Path, fault: FileFault) -> str:
    return f"{str(path)!r}" + (f", line {fault.line}" if fault.line else "") + f": {fault.message}"


def _excuse(
    kind: FileKind, path: Path, content: bytes, fatal: list[FileFault], least: Weight, witness: Witness
) -> str | None:
    """Say what the broker shows against our rules, or None."""
    if witness.has_loaded(path):
        loaded = [fault for fault in _CHECKS[kind](path.read_bytes()) if fault.weight >= least]
        if len(fatal) <= len(loaded):  # what we write adds none
            return "the broker has the file loaded as it is"
    # a broker that starts may still have passed over a rule
    if any(fault.is_silent for fault in fatal) or not witness.takes(kind, content):
        return None
    return "a trial showed that the broker takes the file as it is"


def _danger(kind: str, version: tuple[int, int] | None, *, is_open: bool) -> str:
    if kind not in _CHECKS:
        return "break TLS"
    on_20 = {
        "acl": "switch off all access control",
        "password": "let everybody in" if is_open else "lock everybody out",
        "psk": "shut out all who come with a PSK",
    }[kind]
    if version is None:
        return f"{on_20} (Mosquitto 2.0) or end the broker (2.1)"
    return on_20 if version < _STRICT else "end the broker"


def _refusal(what: str, danger: str, hint: str | None = None) -> BrokerFileError:
    return BrokerFileError(f"{what}: a reload now would {danger}", hint=hint)
