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
from typing import NamedTuple

from plantops_cli.errors import ConfigError

DEFAULT_ITERATIONS = 10_000
"""A login costs the broker, which hashes inside its event loop, less than 10 ms."""

MAX_ITERATIONS = 10_000_000
"""Above it the broker, and a check here, would stand still for many seconds."""

MAX_STRING_BYTES = 65_535
"""Longest user name and longest password that a CONNECT can carry (MQTT 5, 1.5.4 and 1.5.6)."""

_SALT_BYTES = 12  # the one length that every Mosquitto 2.x reads
_KEY_BYTES = 64

_SALT = r"(?P<salt>[A-Za-z0-9+/]{16}|[A-Za-z0-9+/]{86}==)"
_KEY = r"(?P<key>[A-Za-z0-9+/]{86}==)"
_ENTRY = re.compile(rf"\$(?:6|7\$(?P<iterations>[0-9]{{1,10}}))\${_SALT}\${_KEY}")
_ARGON2_ENTRY = re.compile(r"\$argon2id\$[!-~]+")
_PLAUSIBLE_LINE = re.compile(rb"[^:]+:\s*\$(?:6|7|argon2id)\$[^:]*")
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")

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
    (re.compile(rb"[\x00-\x1f\x7f]"), "contains a control character", "choose a password that can be typed"),
)


class _Entry(NamedTuple):
    """An entry's parts; ``iterations`` is None for ``$6$``, a single salted SHA-512."""

    iterations: int | None
    salt: bytes
    key: bytes


def hash_password(password: bytes, *, iterations: int = DEFAULT_ITERATIONS, salt: bytes | None = None) -> str:
    """Make the ``$7$`` entry (PBKDF2-HMAC-SHA512) of a password.

    Args:
        password: the password as the client will send it.
        iterations: rounds of PBKDF2, 1 to 10,000,000; the broker repeats them at each login.
        salt: 12 random bytes; drawn when None.

    Raises:
        ConfigError: the iterations are out of range, or the salt is one that Mosquitto 2.0 does not read.
    """
    salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
    if len(salt) != _SALT_BYTES:
        raise ConfigError(f"a salt of {len(salt)} bytes: Mosquitto 2.0 reads {_SALT_BYTES} only")
    if not 1 <= iterations <= MAX_ITERATIONS:
        raise ConfigError(f"{iterations} iterations are out of range", hint=f"1 to {MAX_ITERATIONS}")
    key = hashlib.pbkdf2_hmac("sha512", password, salt, iterations, _KEY_BYTES)
    return f"$7${iterations}${_base64(salt)}${_base64(key)}"


def verify_password(password: bytes, entry: str) -> bool:
    """Tell whether a ``$6$`` or ``$7$`` entry, of any Mosquitto, was made of this password.

    Args:
        password: the password to try.
        entry: what follows ``user:`` in the file; False for anything malformed, for more than 10,000,000
            iterations, and for ``$argon2id$``, which only some builds of Mosquitto 2.1 know.
    """
    parts = _parse_entry(entry)
    if parts is None:
        return False
    if parts.iterations is None:
        key = hashlib.sha512(password + parts.salt).digest()
    elif 1 <= parts.iterations <= MAX_ITERATIONS:
        key = hashlib.pbkdf2_hmac("sha512", password, parts.salt, parts.iterations, _KEY_BYTES)
    else:
        return False
    return hmac.compare_digest(key, parts.key)


def find_entry(content: bytes, username: str) -> str | None:
    """Return the entry that counts for a user: of several, the last valid one.

    Args:
        content: the whole password file.
        username: the user to look for.
    """
    wanted = _encode(username)
    found = None
    for line in _lines(content):
        name, entry = _split(line)
        if name == wanted and _is_entry(entry):
            found = entry
    return found


def upsert_entry(content: bytes, username: str, entry: str) -> bytes:
    """Give a user exactly one line, and keep every other byte of the file.

    The line takes the place of the user's first one, or goes to the end; it ends as the lines of the file do.

    Args:
        content: the whole password file.
        username: a user name that ``check_username`` allows.
        entry: the user's new entry.
    """
    name = _encode(username)
    lines = _lines(content)
    newline = b"\r\n" if lines and lines[0].removesuffix(b"\n").endswith(b"\r") else b"\n"
    own = [position for position, line in enumerate(lines) if _split(line)[0] == name]
    if lines and not lines[-1].endswith(b"\n"):
        lines[-1] += b"\n" if lines[-1].endswith(b"\r") else newline
    fresh = name + b":" + entry.encode() + newline
    if not own:
        return b"".join([*lines, fresh])
    lines[own[0]] = fresh
    surplus = set(own[1:])
    return b"".join(line for position, line in enumerate(lines) if position not in surplus)


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
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        return f"line {line} does not look like a password file: it contains NUL"
    numbered = enumerate(_lines(content), start=1)
    telling = [(number, line) for number, line in numbered if line.strip() and not line.lstrip().startswith(b"#")]
    if not telling or any(_PLAUSIBLE_LINE.fullmatch(line) for _, line in telling):
        return None
    return f"line {telling[0][0]} does not look like a password file, nor does any other"


def check_username(username: str) -> None:
    """Make sure that a user can log in under this name.

    Raises:
        ConfigError: MQTT (1.5.4) or Mosquitto's password file does not allow it; the message says which rule.
    """
    reason = next((reason for fault, reason in _USERNAME_FAULTS if fault.search(username)), None)
    if reason is None and len(username.encode()) > MAX_STRING_BYTES:
        reason = f"has more than {MAX_STRING_BYTES:,} bytes"
    if reason is not None:
        shown = ascii(username if len(username) <= 80 else username[:79] + "…")
        raise ConfigError(f"user name {shown} {reason}")


def check_password(password: bytes) -> None:
    """Make sure that a user can log in with this password, and with nothing else.

    Blanks at its ends count, as they do for the broker. Bytes that are not UTF-8 are allowed.

    Raises:
        ConfigError: it is empty, too long, or holds a control character.
    """
    for fault, reason, hint in _PASSWORD_FAULTS:
        if fault.search(password):
            raise ConfigError(f"the password {reason}", hint=hint)
    if len(password) > MAX_STRING_BYTES:
        raise ConfigError(
            f"the password has more than {MAX_STRING_BYTES:,} bytes", hint="MQTT carries no longer one"
        )


def _parse_entry(entry: str) -> _Entry | None:
    found = _ENTRY.fullmatch(entry)
    if found is None:
        return None
    iterations = found["iterations"]
    rounds = None if iterations is None else int(iterations)
    return _Entry(rounds, base64.b64decode(found["salt"]), base64.b64decode(found["key"]))


def _is_entry(entry: str) -> bool:
    return bool(_ENTRY.fullmatch(entry) or _ARGON2_ENTRY.fullmatch(entry))


def _lines(content: bytes) -> list[bytes]:
    # bytes.splitlines would also split at a lone CR, which the broker takes for a part of the line
    return _LINE.findall(content)


def _split(line: bytes) -> tuple[bytes, str]:
    """Split a line into user name and entry; both are empty when the broker skips it."""
    if line.startswith(b"#") or b":" not in line:
        return b"", ""
    # the broker uses strtok, which skips empty fields
    fields = [field.strip() for field in line.split(b":") if field]
    name, entry = [*fields, b"", b""][:2]
    return name, entry.decode("ascii", errors="replace")


def _encode(username: str) -> bytes:
    # a name that is not UTF-8 has bytes that no user of the file can have, and must not raise either
    return username.encode(errors="surrogatepass")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
