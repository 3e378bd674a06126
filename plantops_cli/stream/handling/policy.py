"""What becomes of a message whose handler fails: pure.

``ack``     it counts as handled
``keep``    it stays unacknowledged, and the connection is given up, so that it comes again
Retry       its handler is called again, and in the end ``then`` says what becomes of it
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite
from sys import float_info
from typing import Any, Literal

from plantops_cli.errors import ConfigError
from plantops_cli.messages import Message
from plantops_cli.topics import check_topic

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0

OnFailure = Callable[[Message, BaseException], object]
"""Called with a message that is given up, and with what its handler raised; a function or coroutine function."""

_LONGEST_ERROR = 500
_MOST_DELAYS = 1_000
# control characters, surrogates, and code points that are no characters
_UNWANTED = re.compile(
    "[\0-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane + end) for plane in range(0, 0x110000, 0x10000) for end in (0xFFFE, 0xFFFF))
    + "]"
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A topic on which messages are published that are given up; made by ``dead_letter``."""

    topic: str

    def properties(self, message: Message, error: BaseException, attempts: int) -> dict[str, object]:
        """Return the MQTT 5 properties of the dead letter: where it came from, and why it is one.

        Args:
            message: what is given up.
            error: what its handler raised last.
            attempts: how often it was called.
        """
        kept = {name: message.properties[name] for name in ("content-type",) if name in message.properties}
        why = {"topic": _sendable(message.topic), "error": _reason(error), "count": str(attempts)}
        return {**kept, "user-properties": why}


def dead_letter(topic: str) -> DeadLetter:
    """Publish the payload of what is given up, as it came and at QoS 1, on a topic for somebody to look at.

    With MQTT 5 the user properties ``topic``, ``error`` and ``count`` tell where it came from, what its handler
    raised last, and how often that was called. A message that cannot be published is kept, as by ``keep``.

    Args:
        topic: a topic name.

    Raises:
        TopicError: no message can have this topic name (MQTT 5, 3.3.2.1).
    """
    return DeadLetter(check_topic(topic))


@dataclass(frozen=True)
class Retry:
    """Call a handler again that has failed, while messages of other keys go on.

    A message that is put off holds up the acknowledgements behind it, so that with as many of them as
    ``max_unacknowledged`` says no further attempt is made.

    Args:
        attempts: how often the handler is called in all, at least 1.
        backoff: seconds before each further attempt: a number, one for each, or a function of the number of
            attempts so far. Default: 0.5 s, doubled each time, 30 s at most.
        then: what becomes of the message after that: ``ack``, a ``dead_letter``, or a function or coroutine
            function of the message and what its handler raised, after which it counts as handled.

    Raises:
        ConfigError: an argument is out of its range.
    """

    attempts: int = 3
    backoff: float | Iterable[float] | Callable[[int], float] | None = field(default=None, kw_only=True)
    then: Literal["ack"] | DeadLetter | OnFailure = field(default="ack", kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, int) or isinstance(self.attempts, bool) or self.attempts < 1:
            raise ConfigError(
                f"Retry: attempts={self.attempts!r} is not possible", hint="a whole number, 1 or more"
            )
        if self.then != "ack" and not isinstance(self.then, DeadLetter) and not callable(self.then):
            raise ConfigError(
                f"Retry: then={self.then!r} does not exist", hint='"ack", dead_letter(topic), or a function'
            )
        object.__setattr__(self, "backoff", _checked_backoff(self.backoff))

    def delay_seconds(self, attempts: int) -> float | None:
        """Return how long to wait for the next attempt; None when there is none any more.

        Args:
            attempts: how often the handler was called so far.
        """
        if attempts >= self.attempts:
            return None
        backoff = self.backoff
        if backoff is None:
            return min(FIRST_DELAY_SECONDS * float(2 ** min(attempts - 1, 30)), LONGEST_DELAY_SECONDS)
        if isinstance(backoff, tuple):
            return float(backoff[min(attempts, len(backoff)) - 1])
        answer: Any = backoff(attempts) if callable(backoff) else backoff
        seconds = float(answer)
        if not isfinite(seconds):
            raise ValueError(f"{seconds} is no time to wait")
        return max(seconds, 0.0)


ErrorPolicy = Literal["ack", "keep"] | Retry
"""What becomes of a message whose handler fails."""


def check_policy(policy: object) -> ErrorPolicy:
    """Return a policy as it is.

    Raises:
        ConfigError: there is no such policy.
    """
    if isinstance(policy, Retry):
        return policy
    if policy == "ack" or policy == "keep":  # by which a type checker knows the two
        return policy
    hint = "Retry(1, then=dead_letter(...))" if isinstance(policy, DeadLetter) else '"ack", "keep", or Retry(...)'
    raise ConfigError(f"on_error {policy!r} does not exist", hint=hint)


def _checked_backoff(
    backoff: float | Iterable[float] | Callable[[int], float] | None,
) -> float | tuple[float, ...] | Callable[[int], float] | None:
    if backoff is None or callable(backoff):
        return backoff
    delays = list(islice(backoff, _MOST_DELAYS)) if isinstance(backoff, Iterable) else [backoff]
    if not delays or not all(map(_is_delay, delays)):
        raise ConfigError(
            f"Retry: backoff={backoff!r} is not possible", hint="seconds, 0 or more, or a list of them"
        )
    return tuple(map(float, delays)) if isinstance(backoff, Iterable) else float(backoff)


def _is_delay(delay: object) -> bool:
    return isinstance(delay, (int, float)) and not isinstance(delay, bool) and 0 <= delay <= float_info.max


def _reason(error: BaseException) -> str:
    name = type(error).__name__
    try:
        return _sendable(f"{name}: {error}"[:_LONGEST_ERROR])
    except Exception:  # of whoever has written that class
        return f"{name}, which cannot be shown"


def _sendable(text: str) -> str:
    """Replace the characters for which a broker may end the connection (MQTT 5, 1.5.4), as Mosquitto does."""
    return _UNWANTED.sub(lambda found: " " if found[0].isspace() else "?", text)
