"""What it may mean that nothing comes, said once: when it has lasted for a while, or at the end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from plantops_cli.cli.shared.stderr import say
from plantops_cli.cli.shared.wording import SILENCE, SILENCE_OF_A_GROUP
from plantops_cli.stream.status import Connected, State, Status
from plantops_cli.stream.subscriber import MQTTSubscriber

NOTICE_SECONDS = 30.0
"""How long after the first connection it is time to say that nothing has come."""


class SilenceNotice:
    """Tells somebody who waits for a first message why it may never come.

    Args:
        subscriber: not yet connected.
        has_group: whether others of a group get a part of the messages.
        seconds: how long after the first connection to say so; and at the end in any case.
    """

    def __init__(
        self, subscriber: MQTTSubscriber, *, has_group: bool = False, seconds: float = NOTICE_SECONDS
    ) -> None:
        self._subscriber = subscriber
        self._causes = SILENCE_OF_A_GROUP if has_group else SILENCE
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._is_said = False
        subscriber.add_status_listener(self._take_note)

    @asynccontextmanager
    async def attending(self) -> AsyncIterator[None]:
        """Look in the block, once, whether something has come."""
        try:
            yield
        finally:
            if self._timer:
                self._timer.cancel()

    def say_at_the_end(self) -> None:
        """Say it if nothing has come, and it was not said before."""
        self._say_if_silent("no message at all")

    def _take_note(self, status: Status) -> None:
        if isinstance(status, Connected) and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look)

    def _look(self) -> None:
        if self._subscriber.health.state is State.CONNECTED:  # else other things are told
            self._say_if_silent(f"no message in {self._seconds:g} s")

    def _say_if_silent(self, what: str) -> None:
        if not self._is_said and not self._subscriber.health.received:
            self._is_said = True
            say(f"{what}: {self._causes}")
