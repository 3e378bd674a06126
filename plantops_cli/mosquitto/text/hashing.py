"""The hash of a password in Mosquitto's password file: what follows ``user:``, made, checked and judged.

Pure but for the salt and the password that it draws, and for the clock of a measurement: no file, no process.
The hash is that of ``pw__digest`` in ``security_default.c`` of Mosquitto 2.0, which 2.1 reads too.
"""

import base64
import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass, field

from plantops_cli.errors import ConfigError

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

SALT_BYTES = 12
"""The one length that every Mosquitto 2.x reads; 2.1 writes 64 by itself, which 2.0 refuses."""

HASH_KIND = r"\$[a-z0-9-]{1,32}\$"
"""How a hash of any kind begins, one that is not known here too."""

_KEY_BYTES = 64
_MAX_BROKER_ITERATIONS = 2**31 - 1  # it reads them into an int
_RANDOM_PASSWORD_BYTES = 32
_SAMPLE_ITERATIONS = 2_000

_SALT = r"(?P<salt>[A-Za-z0-9+/]{16}|[A-Za-z0-9+/]{86}==)"
_KEY = r"(?P<key>[A-Za-z0-9+/]{86}==)"
_ENTRY = re.compile(rf"\$(?:6|7\$(?P<iterations>[0-9]{{1,10}}))\${_SALT}\${_KEY}")
_ARGON2_ENTRY = re.compile(r"\$argon2id\$[!-~]+")
# as the PHC string format writes a hash, and crypt(5) before it: $kind$, then parameters, salt and key
_FOREIGN_ENTRY = re.compile(rf"(?!\$(?:6|7|argon2id)\$)(?P<kind>{HASH_KIND})[A-Za-z0-9+/=,.$_-]{{20,}}", re.ASCII)
# of anything else, which may be a password that looks like a hash, not even a part is shown
_SHOWN_KIND = re.compile(r"\$(?:[0-9]{1,2}|argon2[a-z]{0,2})\$")


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry's parts; ``iterations`` is None for ``$6$``, a single salted SHA-512."""

    iterations: int | None
    salt: bytes = field(repr=False)
    key: bytes = field(repr=False)


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


def hash_password(password: bytes, *, iterations: int = DEFAULT_ITERATIONS) -> str:
    """Make the ``$7$`` entry (PBKDF2-HMAC-SHA512) of a password.

    Args:
        password: the password as the client will send it.
        iterations: rounds of PBKDF2, 1,000 to 1,000,000; the broker repeats them at each login.

    Raises:
        ConfigError: the iterations are out of range, or OpenSSL refuses the algorithm.
    """
    check_iterations(iterations)
    salt = secrets.token_bytes(SALT_BYTES)
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
    parts = parse_entry(entry)
    if parts is None or not is_comparable(entry):
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
    if is_argon2(entry):
        return "argon2id"
    foreign = _FOREIGN_ENTRY.fullmatch(entry)
    if foreign is not None:
        return f"unknown kind ({foreign['kind']})" if _SHOWN_KIND.fullmatch(foreign["kind"]) else "unknown kind"
    parts = parse_entry(entry)
    if parts is None:
        return "malformed"
    name = "SHA-512" if parts.iterations is None else f"PBKDF2-SHA512, {parts.iterations:,} iterations"
    return name if len(parts.salt) == SALT_BYTES else f"{name}, {len(parts.salt)}-byte salt"


def is_weaker(entry: str, iterations: int) -> bool:
    """Tell whether hashing the same password anew would give a better entry.

    That is so for ``$6$``, for a salt that Mosquitto 2.0 does not read, and for fewer rounds than wanted. It is
    not for ``$argon2id$`` nor for a malformed entry, of which the password cannot be told to be the same.

    Args:
        entry: what follows ``user:`` in the file.
        iterations: rounds of PBKDF2 of a new entry.
    """
    parts = parse_entry(entry)
    if parts is None:
        return False
    return (parts.iterations or 0) < iterations or len(parts.salt) != SALT_BYTES


def parse_entry(entry: str) -> Entry | None:
    """Take a ``$6$`` or ``$7$`` entry apart; None for one that no Mosquitto reads, and for ``$argon2id$``.

    Args:
        entry: what follows ``user:`` in the file.
    """
    found = _ENTRY.fullmatch(entry)
    if found is None:
        return None
    iterations = None if found["iterations"] is None else int(found["iterations"])
    if iterations is not None and not 1 <= iterations <= _MAX_BROKER_ITERATIONS:
        return None
    return Entry(iterations, base64.b64decode(found["salt"]), base64.b64decode(found["key"]))


def is_argon2(entry: str) -> bool:
    """Tell whether an entry looks like an ``$argon2id$`` hash, which is never opened here.

    Args:
        entry: what follows ``user:`` in the file.
    """
    return _ARGON2_ENTRY.fullmatch(entry) is not None


def is_of_unknown_kind(entry: str) -> bool:
    """Tell whether an entry has the form of a hash, but of a kind that no Mosquitto up to 2.1 makes.

    Args:
        entry: what follows ``user:`` in the file.
    """
    return _FOREIGN_ENTRY.fullmatch(entry) is not None


def is_comparable(entry: str) -> bool:
    """Tell whether ``verify_password`` can say of an entry which password it was made of.

    Args:
        entry: what follows ``user:`` in the file.
    """
    parts = parse_entry(entry)
    return parts is not None and (parts.iterations or 0) <= MAX_VERIFIED_ITERATIONS


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
    _make_key(b"sample", bytes(SALT_BYTES), iterations=_SAMPLE_ITERATIONS)
    return time.perf_counter() - begin


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
