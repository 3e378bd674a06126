"""What handlers made of their messages: counted, and told at a bounded rate."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from plantops_cli.errors import HandlerTimeoutError, PayloadError
from plantops_cli.messages import Message

logger = logging.getLogger("plantops.stream")

_HERE = Path(__file__).parent
# strangers choose the topics
_DEVICES_COUNTED = 10_000
_LINES, _SECONDS = 10, 10.0


class Tally:
    """Counts what failed, over all connections of a subscriber.

    Attributes:
        failures: calls that raised, or took too long.
        timeouts: those of them that took too long.
        retries: calls that were made once more.
        dead_letters: messages that were published as dead letters.
        invalid: messages that did not fit the types of a handler.
        paused_seconds: how long one message held up the acknowledgement of all others.
        invalid_by_device: the same by device id, or by topic where there is none; of the first 10,000.
        on_failure: called with each message that a handler failed on or did not take, and why; for a test kit.
    """

    def __init__(self) -> None:
        self.failures = self.timeouts = self.retries = self.dead_letters = self.invalid = 0
        self.paused_seconds = 0.0
        self.invalid_by_device: Counter[str] = Counter()
        self.on_failure: Callable[[Message, BaseException], None] = _do_nothing
        self._names_with_results: set[str] = set()
        self._rates: dict[str, Rate] = {}

    def fail(self, what: str, message: Message, error: BaseException, hint: str = "") -> None:
        """Count and log a handler that failed, or a function beside it.

        Args:
            what: what failed, with the name of the handler.
            message: what it was called with.
            error: what it raised.
            hint: what follows, or may mend it.
        """
        self.failures += 1
        self.timeouts += isinstance(error, HandlerTimeoutError)
        self.on_failure(message, error)
        if (more := self._rate(f"failed {what}").ask()) is not None:
            exc_info = type(error), error, _behind_us(error.__traceback__)
            logger.error("%s failed on a message of %a%s%s", what, message.topic, hint, more, exc_info=exc_info)

    def note_invalid(self, name: str, message: Message, error: PayloadError, *, is_told: bool) -> None:
        """Count a message that does not fit the types of a handler, and log it if nobody else is told.

        Args:
            name: of the handler.
            message: the message.
            error: what does not fit.
            is_told: whether somebody is told of each.
        """
        self.invalid += 1
        self.on_failure(message, error)
        device = message.device_id or message.topic
        if device in self.invalid_by_device or len(self.invalid_by_device) < _DEVICES_COUNTED:
            self.invalid_by_device[device] += 1
        if not is_told and (more := self._rate(f"invalid {name}").ask()) is not None:
            logger.warning("%s%s", error, more)

    def note_result(self, name: str, result: object) -> None:
        """Say once that what a handler returns is ignored.

        Args:
            name: of the handler.
            result: what it has returned.
        """
        if name not in self._names_with_results:
            self._names_with_results.add(name)
            logger.warning("handler %s returned a value of type %s, which is ignored", name, type(result).__name__)

    def _rate(self, what: str) -> "Rate":
        return self._rates.setdefault(what, Rate())


def _do_nothing(message: Message, error: BaseException) -> None: ...


def _behind_us(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the user's own code on; how that came to be called is no news."""
    while traceback is not None and Path(traceback.tb_frame.f_code.co_filename).parent == _HERE:
        traceback = traceback.tb_next
    return traceback


class Rate:
    """Allows so many lines in so many seconds, for whoever sends can make us write."""

    def __init__(self) -> None:
        self._began = 0.0
        self._count = self._left_out = 0

    def ask(self) -> str | None:
        """Return None when no line may be written, else what to add to it about those that were not."""
        moment = time.monotonic()
        if moment - self._began >= _SECONDS:
            self._began, self._count = moment, 0
        if self._count >= _LINES:
            self._left_out += 1
            return None
        self._count += 1
        left_out, self._left_out = self._left_out, 0
        return f" ({left_out:,} more like it were not logged)" if left_out else ""
