"""One step of an examination: what it found, how long it took, and how to mend what is broken."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from plantops_cli.errors import BrokerError, PlantopsError


class StepResult(StrEnum):
    """How a step went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Step:
    """A step, and what it found.

    Attributes:
        name: what was tried.
        result: how it went.
        seconds: how long it took.
        details: what was found, a line each.
        cure: how to mend it, or None when there is nothing to mend.
        error: what is broken, or None.
    """

    name: str
    result: StepResult
    seconds: float
    details: tuple[str, ...]
    cure: str | None = None
    error: PlantopsError | None = None


class StepReport(NamedTuple):
    """What a step found that went on to its end.

    Attributes:
        details: what was found, a line each.
        cure: how to mend what is not as it should be; None: all is well.
    """

    details: Sequence[str]
    cure: str | None = None


class BrokenError(Exception):
    """A step failed; the ones behind it make no sense.

    Args:
        error: what is broken.
        details: what was found, a line each; default: the error.
        cure: how to mend it; default: the hint of the error.
    """

    def __init__(self, error: BrokerError, *details: str, cure: str | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.details = details or (str(error),)
        self.cure = cure or error.hint


async def take(name: str, trial: Callable[[], Awaitable[StepReport]]) -> Step:
    """Take a step, and time it; what is to be mended and breaks nothing is a warning.

    Args:
        name: what is tried.
        trial: tries it; raises ``BrokenError``.
    """
    began = time.monotonic()
    try:
        details, cure = await trial()
    except BrokenError as exc:
        return Step(name, StepResult.FAILED, time.monotonic() - began, exc.details, exc.cure, exc.error)
    result = StepResult.WARNING if cure else StepResult.OK
    return Step(name, result, time.monotonic() - began, tuple(details), cure)
