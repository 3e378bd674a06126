"""When the broker was heard last: there an outage begins, however late it is noticed.

A byte is heard when it is read. So is the end of a connection, if it comes out of the blue. But it may come late,
as the last thing of a silence that nobody could know of: the link was cut for a while, this program was stopped,
or the machine asleep. Then the silence counts from its beginning.
"""

from collections.abc import Callable

from plantops_cli.stream.clock import since_boot

LATE_SECONDS = 2.5
"""Somebody looks each second; who has not looked for so long was stopped, asleep, or kept from it."""

_ANSWER_SECONDS = 2.0
_PROOF_SECONDS = 3.0


class Hearing:
    """What is known of when a broker was heard, on one connection.

    Args:
        clock: seconds, going on while the machine sleeps.
        late_seconds: as ``LATE_SECONDS``; infinite where nobody looks.

    Attributes:
        heard_at: when something was read last, by that clock; before anything was, when the connection was begun.
        gap_count: how often nobody looked for a while.
    """

    def __init__(self, clock: Callable[[], float] = since_boot, *, late_seconds: float = LATE_SECONDS) -> None:
        self.gap_count = 0
        self.heard_at = clock()
        self._clock = clock
        self._late_seconds = late_seconds
        self._looked_at = self.heard_at
        self._asked_at: float | None = None
        self._is_gap_open = False
        self._silent_since = self._proven_at = self.heard_at
        self._ended_at: float | None = None

    def heard(self) -> None:
        """Take note that something was read."""
        now = self._clock()
        # once for each read: no call more than it needs
        if self._is_gap_open or self._asked_at is not None or now - self._looked_at > self._late_seconds:
            self._hear_after_doubt(now)
        self.heard_at = self._looked_at = now

    def asked(self) -> None:
        """Take note that the broker was asked for a sign of life."""
        if self._asked_at is None:
            self._asked_at = self._clock()

    def looked(self) -> None:
        """Take note that the connection was looked at, and that its end is not known."""
        self._look(self._clock())

    def saw_end(self) -> None:
        """Take note that the connection has ended, behind what is left unread."""
        if self._ended_at is None:
            now, looked_at = self._clock(), self._looked_at
            self._look(now)
            # what would answer us may lie unread
            self._asked_at = None
            self._ended_at = self._began_before(now) if self._is_doubtful(now) else looked_at

    def silent_since(self, *, is_told: bool) -> float:
        """Return since when nothing can have been heard, now that the connection has ended.

        Args:
            is_told: whether the broker has ended it and we were told, rather than gave it up.
        """
        now = self._clock()
        self._look(now)
        if self._ended_at is not None:
            return self._ended_at
        if not is_told or self._is_doubtful(now) or now < self._proven_at:
            return self._began_before(now)
        return now

    def _hear_after_doubt(self, now: float) -> None:
        self._look(now)
        if self._is_doubtful(now):
            # the last words of a broker that has given us up look the same: what follows will show
            self._silent_since = self._began_before(now)
            self._proven_at = now + _PROOF_SECONDS
        self._asked_at = None
        self._is_gap_open = False

    def _look(self, now: float) -> None:
        if now - self._looked_at > self._late_seconds:
            self.gap_count += 1
            self._is_gap_open = True
        self._looked_at = now

    def _is_doubtful(self, now: float) -> bool:
        is_unanswered = self._asked_at is not None and now - self._asked_at > _ANSWER_SECONDS
        return self._is_gap_open or is_unanswered

    def _began_before(self, now: float) -> float:
        return self._silent_since if now < self._proven_at else self.heard_at
