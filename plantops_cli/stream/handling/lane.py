"""Which message is to be handled next: so many at once, those of one key in the order in which they came; pure."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from itertools import chain

from plantops_cli.stream.handling.ledger import Work


class Lane:
    """The messages of one handler, or of all those that take one message at a time.

    A key is held from the moment in which a message of it is taken until that is done with; what comes for it
    meanwhile is parked. Where only one message is taken at a time the order needs no keys, until one is put off.

    Args:
        concurrency: how many messages may be in hand at once, at least 1.
        key_of: tells the key of a message; never raises.

    Attributes:
        concurrency: as given.
        put: lets a message wait behind the others.
        in_hand: messages that were taken, and are neither done with nor put off.
        is_blocked: True when nothing more is to be taken.
    """

    def __init__(self, concurrency: int, key_of: Callable[[Work], Hashable]) -> None:
        self.concurrency = concurrency
        self.in_hand = 0
        self.is_blocked = False
        self._key_of = key_of
        self._fresh: deque[Work] = deque()
        self._due: deque[Work] = deque()
        self._held: dict[Hashable, deque[Work] | None] = {}
        self.put = self._fresh.append

    @property
    def has_work(self) -> bool:
        """Whether there may be something to be taken."""
        return bool(self._due or self._fresh) and not self.is_blocked

    def take(self) -> Work | None:
        """Return the next message that may be handled, or None."""
        if self.is_blocked:
            return None
        if self._due:
            self.in_hand += 1
            return self._due.popleft()
        fresh = self._fresh
        if self.concurrency > 1 or self._held:
            while fresh:
                work = fresh.popleft()
                if self._hold(work):
                    self.in_hand += 1
                    return work
        elif fresh:
            self.in_hand += 1
            return fresh.popleft()
        return None

    def take_alike(self, work: Work, limit: int) -> list[Work]:
        """Take more messages for the same single handler, as far as they come one behind the other.

        Args:
            work: the one that was taken last, in a lane that takes one at a time.
            limit: how many to return at most, ``work`` included.
        """
        alike = [work]
        fresh, handler = self._fresh, work.calls[0].registration
        if self._held or self._due:
            return alike
        while fresh and len(alike) < limit:
            calls = fresh[0].calls
            if len(calls) > 1 or calls[0].registration is not handler:
                break
            alike.append(fresh.popleft())
        self.in_hand += len(alike) - 1
        return alike

    def give_back(self, works: list[Work]) -> None:
        """Put what was taken last, and was not begun, in front again.

        Args:
            works: in the order in which they were taken, of ``take_alike``.
        """
        self._fresh.extendleft(reversed(works))
        self.in_hand -= len(works)

    def done(self, work: Work) -> None:
        """Let go of a message, and of its key; the next one of its key is in front then."""
        self.in_hand -= 1
        if work.holds_key:
            self.let_go(work)

    def put_off(self, work: Work) -> None:
        """Let others have the place of a message; those of its key wait for it all the same."""
        self.in_hand -= 1
        if not work.holds_key:
            self._hold(work)

    def let_go(self, work: Work) -> None:
        """Let the next message of its key be taken."""
        work.holds_key = False
        parked = self._held[work.key]
        if not parked:
            del self._held[work.key]
            return
        following = parked.popleft()
        following.holds_key = True
        self._due.append(following)

    def resume(self, work: Work) -> None:
        """Let what was put off be taken next."""
        self._due.appendleft(work)

    @property
    def waiting(self) -> Iterator[Work]:
        """What was not begun."""
        yield from self._fresh
        yield from chain.from_iterable(filter(None, self._held.values()))
        yield from (work for work in self._due if not work.attempts)

    def discard(self, is_wanted: Callable[[Work], bool]) -> list[Work]:
        """Remove what was not begun, but for what is wanted all the same; return what was removed.

        Args:
            is_wanted: tells what stays.
        """
        removed: list[Work] = []
        for waiting in (self._fresh, *filter(None, self._held.values())):
            kept = [work for work in waiting if is_wanted(work)]
            removed += [work for work in waiting if not is_wanted(work)]
            waiting.clear()
            waiting.extend(kept)
        return removed + self._discard_due(is_wanted)

    def _discard_due(self, is_wanted: Callable[[Work], bool]) -> list[Work]:
        unwanted = [work for work in self._due if not work.attempts and not is_wanted(work)]
        for work in unwanted:
            self._due.remove(work)
            self.let_go(work)
        return unwanted

    def _hold(self, work: Work) -> bool:
        """Hold the key of a message; park the message and return False where somebody else holds it."""
        key = work.key = self._key_of(work)
        held = self._held
        if key in held:
            parked = held[key]
            if parked is None:
                parked = held[key] = deque()
            parked.append(work)
            return False
        held[key] = None
        work.holds_key = True
        return True
