"""What a check of one of Mosquitto's files found, line by line, and which broker minds it."""

from dataclasses import dataclass
from enum import IntEnum


class Weight(IntEnum):
    """What the broker does with the file when it reads it again (SIGHUP), or starts."""

    NOTE = 0
    """It reads the file as it is; a person should know."""

    STOPS_21 = 1
    """Mosquitto 2.0 passes over the line; 2.1 refuses the file, which ends the broker."""

    STOPS_ALL = 2
    """Every Mosquitto 2 refuses the file: 2.0 then drops access control at a reload, 2.1 ends."""


@dataclass(frozen=True, slots=True)
class FileFault:
    """One thing found in a file.

    Attributes:
        line: its number, from 1; None when the whole file is meant.
        message: what is wrong; never a hash, nor anything else of a password file but user names.
        weight: what the broker makes of it.
        is_silent: whether a broker may read the file all the same, and pass over a part of it without a word.
    """

    line: int | None
    message: str
    weight: Weight
    is_silent: bool = False
