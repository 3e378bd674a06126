"""Mosquitto's password file as text: the entries in it and the lines around them.

Pure: bytes in, bytes out. The rules are those of Mosquitto 2.0 (``pwfile__parse`` in its
``security_default.c``); where 2.1 is stricter, what is written here satisfies both.
"""

import base64
import codecs
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from plantops_cli.credentials import shown_username
from plantops_cli.errors import ConfigError
from plantops_cli.mosquitto.text.lint import FileFault, Weight

DEFAULT_ITERATIONS = 10_000
"""A login costs the broker, which hashes inside its event loop, less than 10 ms."""

MIN_ITERATIONS = 1_000
"""What the tool of Mosquitto 2.1 writes; below it a stolen hash is guessed too cheaply."""

MAX_ITERATIONS = 1_000_000
"""A login that costs the broker more than half a second helps nobody but who wants to stop it."""

COSTLY_ITERATIONS = 100_000
"""Above it a login, right or wrong, keeps all other clients waiting for some 100 ms."""

MAX_VERIFIED_ITERATIONS = 10_000_000
"""Above it, in an entry that somebody else made, a check would stand still for many seconds."""

MAX_STRING_BYTES = 65_535
"""Longest user name and longest password that a CONNECT can carry (MQTT 5, 1.5.4 and 1.5.6)."""

_SALT_BYTES = 12  # the one length that every Mosquitto 2.x reads
_KEY_BYTES = 64
_MAX_BROKER_ITERATIONS = 2**31 - 1  # it reads them into an int
_RANDOM_PASSWORD_BYTES = 32
_SAMPLE_ITERATIONS = 2_000
_SHOWN_CHARACTERS = 80

_SALT = r"(?P<salt>[A-Za-z0-9+/]{16}|[A-Za-z0-9+/]{86}==)"
_KEY = r"(?P<key>[A-Za-z0-9+/]{86}==)"
_ENTRY = re.compile(rf"\$(?:6|7\$(?P<iterations>[0-9]{{1,10}}))\${_SALT}\${_KEY}")
_ARGON2_ENTRY = re.compile(r"\$argon2id\$[!-~]+")
_HASH_IN_NAME = re.compile(r"\$(?:6|7|argon2id)\$[A-Za-z0-9+/=$,]{16,}")
_PLAUSIBLE_LINE = re.compile(rb"^(?![^\S\n]*#)[^:\n]+:[^\S\n]*\$(?:6|7|argon2id)\$[^:\n]*$", re.MULTILINE)
_ORDINARY_LINE = re.compile(
    rb"(?P<name>[A-Za-z0-9_.@/-]{1,255}):\$7\$[1-9][0-9]{0,5}\$[A-Za-z0-9+/]{16}\$[A-Za-z0-9+/]{86}==\r?"
)
_TELLING_LINE = re.compile(rb"^[^\S\n]*(?P<text>[^\s#])", re.MULTILINE)

_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(
    chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF)
)
_USERNAME_FAULTS = (
    (re.compile(r"\A\Z"), "is empty"),
    (re.compile(r"[\ud800-\udfff]"), "is not UTF-8"),
    (re.compile(r"[\x00-\x1f\x7f-\x9f]"), "contains a control character, which MQTT rules out"),
    (re.compile(f"[{_NONCHARACTERS}]"), "contains a Unicode noncharacter, which MQTT rules out"),
    (re.compile(r"\A\s|\s\Z"), "begins or ends with a blank, which Mosquitto trims"),
    (re.compile(r":"), "contains ':', which ends the user name in a password file"),
    (re.compile(r"\A#"), "begins with '#', which makes the line a comment"),
    (re.compile(r"[+#]"), "contains '+' or '#', which Mosquitto denies where an ACL has patterns"),
)
_PASSWORD_FAULTS = (
    (re.compile(rb"\A\Z"), "is empty", "Mosquitto never accepts an empty password"),
    (re.compile(rb"\0"), "contains NUL", "Mosquitto would accept what stands before it alone"),
    (
        re.compile(rb"[\r\n]"),
        "contains a line break",
        "give it as a file: one line break at its end is dropped",
    ),
)
_CONTROL_FAULT = (
    re.compile(rb"[\x00-\x1f\x7f]"),
    "contains a control character",
    "choose a password that can be typed",
)


class FileUser(NamedTuple):
    """A line that the broker takes for a user.

    Attributes:
        line: its number, from 1.
        username: the user; bytes that are not UTF-8 appear as ``\\xff``, and a hash that strayed in as ``(hash)``.
        kind: what ``entry_kind`` calls the entry.
        is_valid: whether a Mosquitto takes the entry for a hash at all.
    """

    line: int
    username: str
    kind: str
    is_valid: bool


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry's parts; ``iterations`` is None for ``$6$``, a single salted SHA-512."""

    iterations: int | None
    salt: bytes = field(repr=False)
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Line:
    """What the broker makes of a line that is neither a comment nor without ':'."""

    name: bytes
    entry: str = field(repr=False)
    begins_with_colon: bool

    @property
    def is_valid(self) -> bool:
        return bool(_ARGON2_ENTRY.fullmatch(self.entry)) or _parse_entry(self.entry) is not None

    @property
    def is_nameless(self) -> bool:
        """Whether there is no name, or what the broker takes for one was rather meant as the hash."""
        return not self.name or (self.begins_with_colon and not self.is_valid)

    @property
    def is_user(self) -> bool:
        return not self.is_nameless and len(self.name) <= MAX_STRING_BYTES


def check_iterations(iterations: int) -> None:
    """Make sure that a hash of so many rounds is neither worthless nor a burden on the broker.

    Args:
        iterations: rounds of PBKDF2.

    Raises:
        ConfigError: they are not 1,000 to 1,000,000.
    """
    if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
        raise ConfigError(
            f"{iterations:,} iterations are out of range: {MIN_ITERATIONS:,} to {MAX_ITERATIONS:,}",
            hint=f"without the setting they are {DEFAULT_ITERATIONS:,}",
        )


def hash_password(password: bytes, *, iterations: int = DEFAULT_ITERATIONS, salt: bytes | None = None) -> str:
    """Make the ``$7$`` entry (PBKDF2-HMAC-SHA512) of a password.

    Args:
        password: the password as the client will send it.
        iterations: rounds of PBKDF2, 1,000 to 1,000,000; the broker repeats them at each login.
        salt: 12 random bytes; drawn when None.

    Raises:
        ConfigError: the iterations are out of range, the salt is one that Mosquitto 2.0 does not read, or
            OpenSSL refuses the algorithm.
    """
    check_iterations(iterations)
    salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
    if len(salt) != _SALT_BYTES:
        raise ConfigError(f"a salt of {len(salt)} bytes: Mosquitto 2.0 reads {_SALT_BYTES} only")
    key = _make_key(password, salt, iterations=iterations)
    return f"$7${iterations}${_base64(salt)}${_base64(key)}"


def verify_password(password: bytes, entry: str) -> bool:
    """Tell whether a ``$6$`` or ``$7$`` entry, of any Mosquitto, was made of this password.

    Args:
        password: the password to try.
        entry: what follows ``user:`` in the file; False for anything malformed, for more than 10,000,000
            iterations, and for ``$argon2id$``, which only some builds of Mosquitto 2.1 know.

    Raises:
        ConfigError: OpenSSL refuses the algorithm.
    """
    parts = _parse_entry(entry)
    if parts is None or (parts.iterations or 0) > MAX_VERIFIED_ITERATIONS:
        return False
    key = _make_key(password, parts.salt, iterations=parts.iterations)
    return hmac.compare_digest(key, parts.key)


def generate_password() -> bytes:
    """Make a random password of 256 bits, in letters, digits, ``-`` and ``_``."""
    return secrets.token_urlsafe(_RANDOM_PASSWORD_BYTES).encode("ascii")


def measure_login_seconds(iterations: int) -> float:
    """Estimate from a short sample how long one login would keep a broker on this machine busy.

    Args:
        iterations: rounds of PBKDF2.

    Raises:
        ConfigError: OpenSSL refuses the algorithm.
    """
    # the fastest of three, because everything that disturbs a measurement makes it longer
    return min(_time_sample() for _ in range(3)) * iterations / _SAMPLE_ITERATIONS


def costly_warning(iterations: int, seconds_per_login: float) -> str | None:
    """Say what a login will cost the broker, or None up to 100,000 iterations.

    Args:
        iterations: rounds of PBKDF2.
        seconds_per_login: how long one takes here, by ``measure_login_seconds``.
    """
    if iterations <= COSTLY_ITERATIONS:
        return None
    return (
        f"with {iterations:,} iterations each login, right or wrong, stops the broker for about "
        f"{seconds_per_login * 1000:.0f} ms (on a machine like this): it hashes in its only thread, and a reload "
        "hashes again for every connected client"
    )


def entry_kind(entry: str) -> str:
    """Name an entry's algorithm, and what is odd about it, without anything of the hash.

    Args:
        entry: what follows ``user:`` in the file.
    """
    if _ARGON2_ENTRY.fullmatch(entry):
        return "argon2id"
    parts = _parse_entry(entry)
    if parts is None:
        return "malformed"
    name = "SHA-512" if parts.iterations is None else f"PBKDF2-SHA512, {parts.iterations:,} iterations"
    return name if len(parts.salt) == _SALT_BYTES else f"{name}, {len(parts.salt)}-byte salt"


def is_weaker(entry: str, iterations: int) -> bool:
    """Tell whether hashing the same password anew would give a better entry.

    That is so for ``$6$``, for a salt that Mosquitto 2.0 does not read, and for fewer rounds than wanted. It is
    not for ``$argon2id$`` nor for a malformed entry, of which the password cannot be told to be the same.

    Args:
        entry: what follows ``user:`` in the file.
        iterations: rounds of PBKDF2 of a new entry.
    """
    parts = _parse_entry(entry)
    if parts is None:
        return False
    return (parts.iterations or 0) < iterations or len(parts.salt) != _SALT_BYTES


def find_entry(content: bytes, username: str) -> str | None:
    """Return the entry that counts for a user: of several, the last valid one.

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
        FileUser(number, _readable(line.name), entry_kind(line.entry), line.is_valid)
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
    newline = _newline(content)
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
    nor comments, none of which begins ``user:$6$``, ``user:$7$`` or ``user:$argon2id$``, as in a
    ``mosquitto.conf`` or an ``/etc/passwd`` given by mistake.

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


def check_username(username: str) -> None:
    """Make sure that a user can log in under this name.

    Raises:
        ConfigError: MQTT (1.5.4) or Mosquitto's password file does not allow it; the message says which rule.
    """
    reason = _username_fault(username)
    if reason is not None:
        raise ConfigError(f"user name {_cut(shown_username(username))!a} {reason}")


def check_password(password: bytes, *, allow_control: bool = False) -> None:
    """Make sure that a user can log in with this password, and with nothing else.

    Blanks at its ends count, as they do for the broker. Bytes that are not UTF-8 are allowed.

    Args:
        password: the password as the client will send it.
        allow_control: True to allow control characters, but for NUL, CR and LF.

    Raises:
        ConfigError: it is empty, too long, or holds a control character.
    """
    faults = _PASSWORD_FAULTS if allow_control else (*_PASSWORD_FAULTS, _CONTROL_FAULT)
    for fault, reason, hint in faults:
        if fault.search(password):
            raise ConfigError(f"the password {reason}", hint=hint)
    if len(password) > MAX_STRING_BYTES:
        raise ConfigError(
            f"the password has more than {MAX_STRING_BYTES:,} bytes", hint="MQTT carries no longer one"
        )


def password_notices(password: bytes) -> list[str]:
    """Say what about an allowed password may surprise whoever types it elsewhere.

    Args:
        password: one that ``check_password`` allows.
    """
    if password == password.strip():
        return []
    return ["the password begins or ends with a blank, which is kept: every client must send it too"]


def _make_key(password: bytes, salt: bytes, *, iterations: int | None) -> bytes:
    """Hash as the broker does; without iterations it is the single round of ``$6$``."""
    try:
        if iterations is None:
            return hashlib.sha512(password + salt).digest()
        return hashlib.pbkdf2_hmac("sha512", password, salt, iterations, _KEY_BYTES)
    except ValueError as exc:
        raise ConfigError(
            "this Python's OpenSSL refuses to hash as Mosquitto does (SHA-512, PBKDF2)",
            hint="let it load a provider that has them; OpenSSL in FIPS mode may lack one",
        ) from exc


def _time_sample() -> float:
    begin = time.perf_counter()
    _make_key(b"sample", bytes(_SALT_BYTES), iterations=_SAMPLE_ITERATIONS)
    return time.perf_counter() - begin


def _parse_entry(entry: str) -> _Entry | None:
    found = _ENTRY.fullmatch(entry)
    if found is None:
        return None
    iterations = None if found["iterations"] is None else int(found["iterations"])
    if iterations is not None and not 1 <= iterations <= _MAX_BROKER_ITERATIONS:
        return None
    return _Entry(iterations, base64.b64decode(found["salt"]), base64.b64decode(found["key"]))


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


def _newline(content: bytes) -> bytes:
    first, _, _ = content.partition(b"\n")
    return b"\r\n" if first.endswith(b"\r") else b"\n"


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
    reason = _username_fault(name.decode(errors="surrogateescape"))
    if reason is not None:
        yield Weight.NOTE, f"user name {_shown(name)} {reason}"


def _entry_faults(entry: str, user: str) -> Iterator[tuple[Weight, str]]:
    if _ARGON2_ENTRY.fullmatch(entry):
        yield Weight.STOPS_21, f"{user} has an argon2id hash, which only a Mosquitto 2.1 built with argon2 reads"
        return
    parts = _parse_entry(entry)
    if parts is None:
        yield Weight.STOPS_21, f"{user} {_why_malformed(entry)}"
        return
    if len(parts.salt) != _SALT_BYTES:
        yield Weight.NOTE, f"{user} has a salt of {len(parts.salt)} bytes, and cannot log in to Mosquitto 2.0"
    if (parts.iterations or 0) > MAX_ITERATIONS:
        yield Weight.NOTE, f"{user} has {parts.iterations:,} iterations: each login stops the broker for long"


def _why_malformed(entry: str) -> str:
    if not entry:
        return "has no hash"
    return (
        "has a malformed hash" if entry.startswith("$") else "has no hash but other text, maybe a plain password"
    )


def _username_fault(username: str) -> str | None:
    reason = next((reason for fault, reason in _USERNAME_FAULTS if fault.search(username)), None)
    if reason is None and len(username.encode()) > MAX_STRING_BYTES:
        return f"has more than {MAX_STRING_BYTES:,} bytes"
    return reason


def _shown(name: bytes) -> str:
    return repr(_cut(_readable(name)))


def _readable(name: bytes) -> str:
    # a line whose fields are swapped has the hash for a name
    return _HASH_IN_NAME.sub("(hash)", name.decode(errors="backslashreplace"))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _encode(username: str) -> bytes:
    # a name that is not UTF-8 has bytes that no user of the file can have, and must not raise either
    return username.encode(errors="surrogatepass")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
