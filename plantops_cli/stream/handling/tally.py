"""What handlers made of their messages: counted, and told at a bounded rate."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from plantops_cli.errors import HandlerTimeoutError, PayloadError
from plantops_cli.messages import Message
from plantops_cli.stream.rates import Rates

logger = logging.getLogger("plantops.stream")

_HERE = Path(__file__).parent
# strangers choose the topics
_DEVICES_COUNTED = 10_000
_TOPIC_CHARACTERS = 80


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
        rates: how often the log tells of each kind of failure.
        on_failure: called with each message that a handler failed on or did not take, and why; for a test kit.
    """

    def __init__(self) -> None:
        self.failures = self.timeouts = self.retries = self.dead_letters = self.invalid = 0
        self.paused_seconds = 0.0
        self.invalid_by_device: Counter[str] = Counter()
        self.on_failure: Callable[[Message, BaseException], None] = _do_nothing
        self.rates = Rates(logger)
        self._names_with_results: set[str] = set()

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
        if (more := self.rates.ask(f"failures of {what}")) is not None:
            exc_info = type(error), error, _behind_us(error.__traceback__)
            logger.error(
                "%s failed on a message of %a%s%s", what, shown(message.topic), hint, more, exc_info=exc_info
            )

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
        if not is_told and (more := self.rates.ask(f"messages that do not fit handler {name}")) is not None:
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


def shown(topic: str) -> str:
    """Return as much of a topic as a line of the log has room for."""
    return topic[:_TOPIC_CHARACTERS]


def _do_nothing(message: Message, error: BaseException) -> None: ...


def _behind_us(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the user's own code on; how that came to be called is no news."""
    while traceback is not None and Path(traceback.tb_frame.f_code.co_filename).parent == _HERE:
        traceback = traceback.tb_next
    return traceback
