"""Mosquitto's password file as text: its lines, and which user and which entry the broker sees in each.

Pure: bytes in, bytes out. The rules are those of Mosquitto 2.0 (``pwfile__parse`` in its
``security_default.c``); where 2.1 is stricter, what is written here satisfies both.
"""

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from plantops_cli.mosquitto.text.hashing import (
    HASH_KIND,
    MAX_ITERATIONS,
    SALT_BYTES,
    entry_kind,
    is_argon2,
    is_of_unknown_kind,
    parse_entry,
)
from plantops_cli.mosquitto.text.lines import newline_of
from plantops_cli.mosquitto.text.lint import FileFault, Weight
from plantops_cli.mosquitto.text.logins import MAX_STRING_BYTES, cut_name, why_no_username

_HASH_IN_NAME = re.compile(rf"{HASH_KIND}[A-Za-z0-9+/=$,._-]{{16,}}")
# 8 and more: for a Mosquitto to come; other kinds are those of htpasswd and /etc/shadow
_PLAUSIBLE_LINE = re.compile(
    rb"^(?![^\S\n]*#)[^:\n]+:[^\S\n]*\$(?:[6-9]|[1-9][0-9]|argon2[a-z]{1,2})\$[^:\n]*$", re.MULTILINE
)
_ORDINARY_LINE = re.compile(
    rb"(?P<name>[A-Za-z0-9_.@/-]{1,255}):\$7\$[1-9][0-9]{0,5}\$[A-Za-z0-9+/]{16}\$[A-Za-z0-9+/]{86}==\r?"
)
_TELLING_LINE = re.compile(rb"^[^\S\n]*(?P<text>[^\s#])", re.MULTILINE)


class FileUser(NamedTuple):
    """A line that the broker takes for a user.

    Attributes:
        line: its number, from 1.
        username: the user; bytes that are not UTF-8 appear as ``\\xff``, and a hash that strayed in as ``(hash)``.
        kind: what ``entry_kind`` calls the entry.
        is_valid: whether a Mosquitto takes the entry for a hash at all; None when its kind is not known here.
    """

    line: int
    username: str
    kind: str
    is_valid: bool | None


@dataclass(frozen=True, slots=True)
class _Line:
    """What the broker makes of a line that is neither a comment nor without ':'."""

    name: bytes
    entry: str = field(repr=False)
    begins_with_colon: bool

    @property
    def is_unknown(self) -> bool:
        return is_of_unknown_kind(self.entry)

    @property
    def is_valid(self) -> bool:
        return is_argon2(self.entry) or self.is_unknown or parse_entry(self.entry) is not None

    @property
    def is_nameless(self) -> bool:
        """Whether there is no name, or what the broker takes for one was rather meant as the hash."""
        return not self.name or (self.begins_with_colon and not self.is_valid)

    @property
    def is_user(self) -> bool:
        return not self.is_nameless and len(self.name) <= MAX_STRING_BYTES


def find_entry(content: bytes, username: str) -> str | None:
    """Return the entry that counts for a user: of several, the last that is valid or of an unknown kind.

    Args:
        content: the whole password file.
        username: the user to look for.
    """
    found = None
    for start, end in _own_lines(content, username):
        line = _split(content[start:end])
        if line is not None and line.is_valid:
            found = line.entry
    return found


def count_entries(content: bytes, username: str) -> int:
    """Count the lines of a user, valid or not; more than one is what Mosquitto 2.1 refuses.

    Args:
        content: the whole password file.
        username: the user to look for.
    """
    return len(_own_lines(content, username))


def list_users(content: bytes) -> list[FileUser]:
    """Return every line that the broker takes for a user, in the order of the file, duplicates each.

    Args:
        content: the whole password file.
    """
    return [
        FileUser(number, _readable(line.name), entry_kind(line.entry), None if line.is_unknown else line.is_valid)
        for number, line in _numbered_lines(content)
        if line.is_user
    ]


def upsert_entry(content: bytes, username: str, entry: str) -> bytes:
    """Give a user exactly one line, and keep every other byte of the file.

    The line takes the place of the user's first one, or goes to the end; it ends as the lines of the file do.

    Args:
        content: the whole password file.
        username: a user name that ``check_username`` allows.
        entry: the user's new entry.
    """
    newline = newline_of(content)
    fresh = _encode(username) + b":" + entry.encode() + newline
    own = _own_lines(content, username)
    if own:
        return _replace_lines(content, own, fresh)
    if not content or content.endswith(b"\n"):
        return content + fresh
    return content + (b"\n" if content.endswith(b"\r") else newline) + fresh


def remove_entry(content: bytes, username: str) -> bytes:
    """Remove every line of a user, and keep every other byte of the file.

    Args:
        content: the whole password file.
        username: the user to remove.
    """
    return _replace_lines(content, _own_lines(content, username), b"")


def why_no_password_file(content: bytes) -> str | None:
    """Say why this is plainly no password file, or None when it may be one.

    Mosquitto skips lines that it does not understand, so that a few of them are no reason. These are: a byte
    order mark, which spoils the first user; NUL, which hides the next user; and lines that are neither blank
    nor comments, none of which begins ``user:$6$``, ``user:$7$``, a higher number, or ``user:$argon2id$``, as in
    a ``mosquitto.conf`` or an ``/etc/passwd`` given by mistake.

    Args:
        content: the whole file.
    """
    if content.startswith(codecs.BOM_UTF8):
        return "line 1 begins with a byte order mark, which makes its user unknown to Mosquitto"
    if b"\0" in content:
        line = _line_number(content, content.index(b"\0"))
        return f"line {line} does not look like a password file: it contains NUL"
    if _PLAUSIBLE_LINE.search(content):
        return None
    telling = _TELLING_LINE.search(content)
    if telling is None:
        return None
    line = _line_number(content, telling.start("text"))
    return f"line {line} does not look like a password file, nor does any other"


def check_password_file(content: bytes) -> list[FileFault]:
    """Find what a broker would pass over, or refuse the file for, in the order of its lines.

    The weights are those seen on Mosquitto 2.0.11 and 2.1.2: 2.0 passes over every line that it cannot use,
    2.1 refuses the file for it. No message holds anything of a line but its user name.

    Args:
        content: the whole password file.
    """
    found = list(_byte_faults(content))
    first: dict[bytes, int] = {}
    for number, text in enumerate(content.split(b"\n"), start=1):
        name, faults = _check_line(text)
        if name is not None and first.setdefault(name, number) != number:
            message = f"user {_shown(name)} again, after line {first[name]}: 2.0 takes the last valid one"
            faults.append((Weight.STOPS_21, message))
        found += [FileFault(number, message, weight) for weight, message in faults]
    return sorted(found, key=lambda fault: fault.line or 0)


def _split(line: bytes) -> _Line | None:
    """Read a line as the broker does; None when it passes over it without a word."""
    # a C string ends at NUL, for 2.1; 2.0 may lose the line, and never gets to see a file of ours with one
    text, _, _ = line.partition(b"\0")
    if text.startswith(b"#") or b":" not in text:
        return None
    # the broker uses strtok, which skips empty fields
    name, _, rest = text.lstrip(b":").partition(b":")
    entry, _, _ = rest.lstrip(b":").partition(b":")
    return _Line(name.strip(), entry.strip().decode("ascii", errors="replace"), text.startswith(b":"))


def _numbered_lines(content: bytes) -> Iterator[tuple[int, _Line]]:
    # bytes.splitlines would also split at a lone CR, which the broker takes for a part of the line
    for number, text in enumerate(content.split(b"\n"), start=1):
        line = _split(text)
        if line is not None:
            yield number, line


def _own_lines(content: bytes, username: str) -> list[tuple[int, int]]:
    """Return where each line of a user begins and ends, its line feed included."""
    name = _encode(username)
    if not name or name != name.strip():
        return []
    # one search through the bytes: splitting each line of a large file would take ten times as long
    candidate = re.compile(re.escape(name) + rb"[ \t\r\v\f]*(?:[:\n\0]|\Z)")
    own, position = [], 0
    while found := candidate.search(content, position):
        start = max(position, content.rfind(b"\n", position, found.start()) + 1)
        position = content.find(b"\n", found.start()) + 1 or len(content)
        line = _split(content[start:position])
        if line is not None and line.name == name:
            own.append((start, position))
    return own


def _replace_lines(content: bytes, lines: Sequence[tuple[int, int]], fresh: bytes) -> bytes:
    """Put a line in the place of the first of some lines, and drop the others."""
    pieces, position = [], 0
    for start, end in lines:
        pieces += [content[position:start], fresh]
        position, fresh = end, b""
    return b"".join([*pieces, content[position:]])


def _line_number(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def _byte_faults(content: bytes) -> Iterator[FileFault]:
    if content.startswith(codecs.BOM_UTF8):
        yield FileFault(1, "a byte order mark, which Mosquitto takes for a part of the first line", Weight.NOTE)
    if b"\0" in content:
        line = _line_number(content, content.index(b"\0"))
        yield FileFault(line, "NUL, which can hide its line and all after it from Mosquitto 2.0", Weight.NOTE)


def _check_line(text: bytes) -> tuple[bytes | None, list[tuple[Weight, str]]]:
    """Return the user of a line, if it has one, and what is wrong with it."""
    ordinary = _ORDINARY_LINE.fullmatch(text)  # one look instead of ten, for large files are made of such lines
    if ordinary is not None:
        return ordinary["name"], []
    line = _split(text)
    if line is None:
        return None, []
    return line.name if line.is_user else None, list(_line_faults(line))


def _line_faults(line: _Line) -> Iterator[tuple[Weight, str]]:
    if line.is_nameless:
        yield Weight.STOPS_21, "no user name before the ':'"
    elif len(line.name) > MAX_STRING_BYTES:
        yield Weight.STOPS_21, f"a user name of more than {MAX_STRING_BYTES:,} bytes"
    elif line.name.startswith(b"#"):
        weight = Weight.NOTE if line.is_valid else Weight.STOPS_21
        yield weight, "an indented comment with ':', which Mosquitto takes for a user"
    else:
        yield from _entry_faults(line.entry, f"user {_shown(line.name)}")
        if line.is_valid:
            yield from _name_faults(line.name)


def _name_faults(name: bytes) -> Iterator[tuple[Weight, str]]:
    reason = why_no_username(name.decode(errors="surrogateescape"))
    if reason is not None:
        yield Weight.NOTE, f"user name {_shown(name)} {reason}"


def _entry_faults(entry: str, user: str) -> Iterator[tuple[Weight, str]]:
    if is_argon2(entry):
        yield Weight.STOPS_21, f"{user} has an argon2id hash, which only a Mosquitto 2.1 built with argon2 reads"
        return
    if is_of_unknown_kind(entry):
        yield Weight.STOPS_21, f"{user} has a hash of an unknown kind, which no Mosquitto up to 2.1 reads"
        return
    parts = parse_entry(entry)
    if parts is None:
        yield Weight.STOPS_21, f"{user} {_why_malformed(entry)}"
        return
    if len(parts.salt) != SALT_BYTES:
        yield Weight.NOTE, f"{user} has a salt of {len(parts.salt)} bytes, and cannot log in to Mosquitto 2.0"
    if (parts.iterations or 0) > MAX_ITERATIONS:
        yield Weight.NOTE, f"{user} has {parts.iterations:,} iterations: each login stops the broker for long"


def _why_malformed(entry: str) -> str:
    if not entry:
        return "has no hash"
    return (
        "has a malformed hash" if entry.startswith("$") else "has no hash but other text, maybe a plain password"
    )


def _shown(name: bytes) -> str:
    return repr(cut_name(_readable(name)))


def _readable(name: bytes) -> str:
    # a line whose fields are swapped has the hash for a name
    return _HASH_IN_NAME.sub("(hash)", name.decode(errors="backslashreplace"))


def _encode(username: str) -> bytes:
    # a name that is not UTF-8 has bytes that no user of the file can have, and must not raise either
    return username.encode(errors="surrogatepass")
