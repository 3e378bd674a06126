"""The ``.env``: whether one counts, and what of it is taken.

Whoever chooses the ``.env`` of a folder chooses where a password is sent. So one counts only when nobody had a
hand in it but the caller, root and, for root under sudo, the user who called sudo (``SUDO_UID``):

- The file is judged by the descriptor that it is then read from: it is a regular one, belongs to one of those
  users, and nobody else may write it.
- So is its folder, for whoever may rename in it can give this name to any file of the caller's, a log for example.
  A sticky folder lets nobody rename a file that is not theirs, and is no fault; but a file that has a second name
  does not count in it, for anybody may have made that name.
- A symbolic link belongs to one of those users as well, and the folder that it leads to is judged like the first.

The write bit of a private group is no fault: that of a group with the name of one of those users, which is that
user's own and has no other member. Not seen are access control lists, the folders on the way to where a link
leads, and a file of the caller's that was moved to a sticky folder out of one that belongs to another user.

Even what counts may have come from elsewhere, in a cloned repository: see ``take``.
"""

import grp
import logging
import os
import pwd
import re
import stat
from codecs import BOM_UTF8
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import BinaryIO

from dotenv.parser import Binding, parse_stream

from plantops_cli.errors import ConfigError

_logger = logging.getLogger("plantops.envfile")

ENV_FILE = Path(".env")
ADDRESS = ("mqtt_url", "mqtt_host", "mqtt_port", "mqtt_tls", "mqtt_cafile")
"""The settings that decide where a password goes, or who may pass for the broker."""

PASSWORDS = ("mqtt_backend_password", "mqtt_admin_password")
"""The settings that are passwords themselves."""

SECRET_FILES = tuple(f"{name}_file" for name in PASSWORDS)
"""Those that name a file with a password in it."""

_MAX_BYTES = 1 << 20
_PROGRAM = "command:"
_REFERENCE = "${"
_UID = re.compile(r"[0-9]{1,10}")
_SHOWN_COUNT = 3
_NOT_REGULAR = "it is not a regular file"
_CURE = "if you trust it, name it: load_settings(env_file=...)"


@dataclass(frozen=True, slots=True)
class EnvFile:
    """A file of settings that was read.

    Attributes:
        path: where it is, as it was named.
        values: what it sets, by lower-case name; what it sets to nothing is left out.
        is_public: whether every user of this machine may read it.
        commented: the settings after whose value a comment begins, which might be a part of it.
        unread_lines: the numbers of the lines that say nothing.
    """

    path: Path
    values: Mapping[str, str] = field(repr=False)
    is_public: bool = False
    commented: frozenset[str] = frozenset()
    unread_lines: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """What of a file is used.

    Attributes:
        values: the settings that it decides, by field.
        warnings: what a person should know, one line each.
    """

    values: Mapping[str, str] = field(repr=False)
    warnings: tuple[str, ...] = ()


def find_env_file() -> EnvFile | None:
    """Read the ``.env`` that nobody named; one that does not count is ignored, with a warning in the log.

    Raises:
        ConfigError: it counts, but is not text, or too long for a file of settings.
    """
    path = ENV_FILE
    try:
        # only a regular file is opened: a pipe would wait for its writer, a device may do anything
        if not stat.S_ISREG(path.stat().st_mode):
            _ignore(path, _NOT_REGULAR, cure="rename it, or move it away")
            return None
        link, folders = path.lstat(), [path.parent.stat()]
        if stat.S_ISLNK(link.st_mode):
            folders.append(Path(os.path.realpath(path)).parent.stat())
        with _open(path) as file:
            seen = os.fstat(file.fileno())
            fault = find_fault(seen, link=link, folders=folders, users=trusted_users())
            if fault is None:
                return _read(file, path)
            _ignore(path, fault, cure=_CURE)
    except FileNotFoundError:
        pass
    except OSError as exc:
        # in a folder that may not be searched nobody knows of any file
        if os.path.lexists(path):
            _ignore(path, f"it cannot be read: {exc.strerror}", cure="check who may read it")
    return None


def read_env_file(path: Path) -> EnvFile:
    """Read a file of settings that somebody named on purpose, whoever owns it.

    Args:
        path: a regular file, or a symbolic link to one.

    Raises:
        ConfigError: it is missing, unreadable, not a regular file, not text, or too long.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"cannot read settings from {str(path)!r}: {_NOT_REGULAR}", hint="name another")
        with _open(path) as file:
            return _read(file, path)
    except OSError as exc:
        hint = "check the path and who may read it"
        raise ConfigError(f"cannot read settings from {str(path)!r}: {exc.strerror}", hint=hint) from exc


def trusted_users() -> frozenset[int]:
    """Return the user ids whose ``.env`` counts: ours and root's, and for root that of whoever called sudo."""
    caller = os.environ.get("SUDO_UID", "") if os.geteuid() == 0 else ""
    called_by = {int(caller)} if _UID.fullmatch(caller) else set[int]()
    return frozenset({os.geteuid(), 0} | called_by)


def find_fault(
    file: os.stat_result, *, link: os.stat_result, folders: Collection[os.stat_result], users: frozenset[int]
) -> str | None:
    """Say why a ``.env`` does not count, or None when it does.

    Args:
        file: the open file.
        link: what bears its name: the file itself, or a symbolic link to it.
        folders: those that link and file stand in.
        users: the user ids that may have had a hand in it.
    """
    if not stat.S_ISREG(file.st_mode):
        return _NOT_REGULAR
    if file.st_uid not in users:
        return f"it belongs to {_name(file.st_uid)}"
    if link.st_uid not in users:
        return f"it is a link that belongs to {_name(link.st_uid)}"
    if _may_others_write(file, users):
        return "others may write it, which chmod go-w would end"
    for folder in folders:
        if folder.st_uid not in users:
            return f"its folder belongs to {_name(folder.st_uid)}, who may put any file there"
        is_sticky = folder.st_mode & stat.S_ISVTX
        if (file.st_nlink > 1 or not is_sticky) and _may_others_write(folder, users):
            return "others may write in its folder, and put any file there"
    return None


def take(file: EnvFile, wanted: Collection[str]) -> Taken:
    """Choose what of a file is used. It may be the caller's own and yet come from elsewhere, in a repository.

    So a program to run is never taken from it. And when it says where to connect, it may not send there a file
    that is outside its folder.

    Args:
        file: the file.
        wanted: the settings that nothing of a higher rank has given.
    """
    values = {name: value for name, value in file.values.items() if name in wanted}
    reasons = dict[str, str]()
    if values.get("mqtt_reload", "").lstrip().lower().startswith(_PROGRAM):
        reasons["mqtt_reload"] = "it would run a program"
    if not values.keys().isdisjoint(ADDRESS):
        folder = os.path.realpath(file.path.parent)
        for name in values.keys() & set(SECRET_FILES):
            if not Path(os.path.realpath(values[name])).is_relative_to(folder):
                reasons[name] = f"{file.path} says where to connect, and may send there no file outside its folder"
    said = [
        f"{name.upper()} of {file.path} is not taken: {why} (set {name.upper()} in the environment if you want it)"
        for name, why in sorted(reasons.items())
    ]
    said += [
        f"{name.upper()} of {file.path} is taken as it is written: {_REFERENCE}...}} is not filled in"
        for name, value in sorted(values.items())
        if _REFERENCE in value and name not in (*reasons, *PASSWORDS)
    ]
    said += [
        f"{name.upper()} of {file.path} ends before a # that begins a comment "
        "(put the whole in single quotes if that is part of it)"
        for name in PASSWORDS
        if name in values and name in file.commented
    ]
    if file.unread_lines:
        said.append(
            f"{file.path}, {_numbered(file.unread_lines)}: not understood, and left out "
            "(write NAME=VALUE, and the value in single quotes if it has quotes in it)"
        )
    if file.is_public and not file.values.keys().isdisjoint(PASSWORDS):
        said.append(
            f"{file.path} holds a password and is readable by every user of this machine "
            "(chmod 600 would end that)"
        )
    return Taken({name: value for name, value in values.items() if name not in reasons}, tuple(said))


def _may_others_write(seen: os.stat_result, users: frozenset[int]) -> bool:
    if seen.st_mode & stat.S_IWOTH:
        return True
    return bool(seen.st_mode & stat.S_IWGRP) and not _is_private(seen.st_gid, users)


def _is_private(gid: int, users: frozenset[int]) -> bool:
    """Whether a group is that of one of these users alone, as most systems make one with each account."""
    try:
        group = grp.getgrgid(gid)
        owner = pwd.getpwnam(group.gr_name)
    except KeyError:
        return False
    if owner.pw_gid != gid or owner.pw_uid not in users or set(group.gr_mem) - {owner.pw_name}:
        return False
    return all(account.pw_uid == owner.pw_uid for account in pwd.getpwall() if account.pw_gid == gid)


def _name(uid: int) -> str:
    try:
        return repr(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return f"uid {uid}"


def _ignore(path: Path, fault: str, *, cure: str) -> None:
    _logger.warning("%s is ignored: %s (%s)", path, fault, cure)


def _open(path: Path) -> BinaryIO:
    # what has become a pipe meanwhile is not waited for
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY))


def _read(file: BinaryIO, path: Path) -> EnvFile:
    mode = os.fstat(file.fileno()).st_mode
    data = file.read(_MAX_BYTES + 1) if stat.S_ISREG(mode) else b"\0"
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{path} has more than {_MAX_BYTES:,} bytes", hint="is it a file of settings?")
    try:
        # some editors begin a file with a byte order mark
        text = data.removeprefix(BOM_UTF8).decode()
        if "\0" in text:
            raise ValueError
    except ValueError:
        # from None: the foreign error carries the whole file
        raise ConfigError(f"{path} is not UTF-8 text", hint="save it as UTF-8, or remove it") from None
    bindings = tuple(parse_stream(StringIO(text, newline=None)))
    # as they are written: with ${...} filled in, a password would silently be another one
    values = {binding.key: binding.value for binding in bindings if binding.key}
    return EnvFile(
        path,
        {name.lower(): value for name, value in values.items() if value},
        is_public=bool(mode & stat.S_IROTH),
        commented=frozenset(binding.key.lower() for binding in bindings if binding.key and _is_cut(binding)),
        unread_lines=tuple(_line_of(binding) for binding in bindings if binding.error),
    )


def _is_cut(binding: Binding) -> bool:
    """Whether a value without quotes goes on, to the eye, with what is a comment."""
    written = binding.original.string.partition("=")[2].strip()
    return bool(binding.value) and not written.startswith(("'", '"')) and written != binding.value


def _line_of(binding: Binding) -> int:
    # the blank lines before it count as part of it
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _numbered(lines: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, lines[:_SHOWN_COUNT]))
    more = f" and {len(lines) - _SHOWN_COUNT} more" if len(lines) > _SHOWN_COUNT else ""
    return f"{'line' if len(lines) == 1 else 'lines'} {shown}{more}"
