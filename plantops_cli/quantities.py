"""Times, sizes and ports as people write them: ``90s``, ``100M``, ``[::1]:9464``. Pure: text in, numbers out."""

import re

from plantops_cli.errors import ConfigError

_SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)")
_PERIOD = re.compile(r"([0-9]{1,9})([smhd])")
# no more digits than a disk has bytes, for int() takes longer with each
_SIZE = re.compile(r"([0-9]{1,15})([KMG]?)(?:iB|B)?")
_PORT = re.compile(r"[0-9]{1,5}")
_LONGEST_SECONDS = 1e9
_LAST_PORT = 65_535
_HERE = "127.0.0.1"


def parse_duration(text: str) -> float:
    """Read a time such as ``30``, ``90s``, ``15m`` or ``1.5h``, in seconds.

    Raises:
        ConfigError: it is none, or none at all.
    """
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 0 < seconds < _LONGEST_SECONDS:
        raise ConfigError(f"{text!r}: no time above 0", hint="seconds, or for example 90s, 15m, 1h")
    return seconds


def parse_period(text: str) -> float:
    """Read a time after which something begins anew, such as ``15m``, ``1h`` or ``1d``, in seconds.

    Stricter than a duration: whole, and with its unit, for a bare ``15`` is as likely meant in minutes.

    Raises:
        ConfigError: it is none, or none at all.
    """
    found = _PERIOD.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not seconds:
        raise ConfigError(f"{text!r}: no time", hint="for example 15m, 1h or 1d")
    return float(seconds)


def parse_size(text: str, *, least_bytes: int = 1) -> int:
    """Read a number of bytes such as ``4096``, ``10M`` or ``1GiB``.

    Args:
        text: digits and perhaps a unit, of 1024 each.
        least_bytes: the smallest size that makes sense.

    Raises:
        ConfigError: it is none, or a smaller one.
    """
    found = _SIZE.fullmatch(text)
    size = int(found[1]) * _BYTES[found[2]] if found else 0
    if size < least_bytes:
        raise ConfigError(f"{text!r}: no size of {least_bytes} bytes or more", hint="for example 100M or 1G")
    return size


def parse_address(text: str) -> tuple[str, int]:
    """Take ``PORT``, ``ADDRESS:PORT`` or ``[IPV6]:PORT`` apart, where something is to be served.

    Without an address it is that of this machine alone: whoever wants to be heard by others has to say so.

    Raises:
        ConfigError: it is none of them.
    """
    host, _, port = text.rpartition(":")
    if not _PORT.fullmatch(port) or not 0 < int(port) <= _LAST_PORT:
        raise ConfigError(f"{text!r}: no port", hint="for example 9464, or 0.0.0.0:9464 for all to see")
    return host.strip("[]") or _HERE, int(port)


def format_duration(seconds: float) -> str:
    """Write a time so that ``parse_duration`` reads the same.

    Args:
        seconds: more than 0.
    """
    return f"{seconds:.12g}s" if seconds >= 1 else f"{seconds * 1000:.12g}ms"
