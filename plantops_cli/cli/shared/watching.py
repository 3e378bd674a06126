"""Values of flags of the commands that watch a fleet."""

import re
from pathlib import Path

from plantops_cli.errors import ConfigError
from plantops_cli.fleet.roster import parse_ids, parse_roster

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)")
_UNITS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def read_roster(path: Path | None, ids: str | None) -> tuple[str, ...]:
    """Return the ids of ``--expect`` or ``--expect-ids``; none without either.

    Args:
        path: the value of ``--expect``.
        ids: the value of ``--expect-ids``.

    Raises:
        ConfigError: both are given, or the roster cannot be read, or holds what is no device id.
    """
    if path is not None and ids is not None:
        raise ConfigError("--expect and --expect-ids were given together", hint="leave one of them out")
    if ids is not None:
        return parse_ids(ids, name="--expect-ids")
    if path is None:
        return ()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise ConfigError(f"--expect {str(path)!r}: {reason}") from exc
    return parse_roster(text, name=f"--expect {str(path)!r}")


def parse_duration(text: str, *, flag: str) -> float:
    """Read a time such as ``30``, ``90s``, ``15m`` or ``1.5h``, in seconds.

    Args:
        text: the value of a flag.
        flag: its name.

    Raises:
        ConfigError: it is none, or none at all.
    """
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds < 1e9:
        raise ConfigError(f"{flag} {text!r}: no time above 0", hint="seconds, or for example 90s, 15m, 1h")
    return seconds
