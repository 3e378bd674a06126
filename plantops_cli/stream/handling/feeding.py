"""The background task that takes messages to their handlers, from its start to its end."""

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING

from plantops_cli.errors import PlantopsError, StateError
from plantops_cli.messages import Publish
from plantops_cli.stream.handling.bounds import Bounds
from plantops_cli.stream.handling.handlers import Handlers
from plantops_cli.stream.handling.tally import Tally
from plantops_cli.stream.lifeline import Lifeline
from plantops_cli.stream.status import StatusListeners

if TYPE_CHECKING:
    from plantops_cli.stream.handling.dispatcher import Dispatcher

logger = logging.getLogger("plantops.stream")

DRAIN_SECONDS = 3.0
"""How long the handlers may take for what is in hand when the end has come."""

_JOIN_SECONDS = 0.5


class Feeding:
    """Feeds handlers from ``start`` to ``leave``, or to an error that nothing can heal; again and again.

    Args:
        lifeline: where the messages come from.
        handlers: who gets them.
        tally: counts what failed.
        publish: as ``MQTTSubscriber.publish``.
        listeners: told of a message that takes long.
        bounds: how much may be in hand at once.
        is_durable: whether the broker keeps what is not acknowledged.
    """

    def __init__(
        self,
        lifeline: Lifeline,
        handlers: Handlers,
        tally: Tally,
        publish: Publish,
        listeners: StatusListeners,
        *,
        bounds: Bounds,
        is_durable: bool,
    ) -> None:
        self._lifeline = lifeline
        self._handlers = handlers
        self._tally = tally
        self._publish = publish
        self._listeners = listeners
        self._limits = bounds
        self._is_durable = is_durable
        self._task: asyncio.Task[None] | None = None
        self._dispatcher: Dispatcher | None = None

    @property
    def is_running(self) -> bool:
        """Whether the task has begun, and has not ended."""
        return self._task is not None and not self._task.done()

    def start(self, name: str) -> None:
        """Begin the task.

        Args:
            name: of the task.

        Raises:
            StateError: it has begun already.
        """
        if self.is_running:
            raise StateError("the subscriber is started already")
        # not before: who reads the stream without handlers is to pay nothing for them
        from plantops_cli.stream.handling.dispatcher import Dispatcher

        self._lifeline.begin()
        self._dispatcher = dispatcher = Dispatcher(
            self._handlers,
            self._tally,
            self._publish,
            self._lifeline,
            self._listeners.tell,
            bounds=self._limits,
            is_durable=self._is_durable,
        )
        self._task = asyncio.create_task(self._run(dispatcher), name=name)
        self._task.add_done_callback(_retrieve)

    async def wait(self) -> None:
        """Wait for the end of the task, and raise what has ended it.

        Raises:
            BrokerError: what has ended it.
            StateError: it has not begun.
        """
        if self._task is None:
            raise StateError("the subscriber was not started", hint="call start() first")
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.result()

    async def leave(self) -> None:
        """Let the handlers finish what is in hand, within ``DRAIN_SECONDS``, and end the task."""
        if self._dispatcher:
            await self._dispatcher.leave(DRAIN_SECONDS)
        if self._task and self._task is not asyncio.current_task():
            await asyncio.wait((self._task,), timeout=_JOIN_SECONDS)
            self._task.cancel()
            await asyncio.wait((self._task,), timeout=_JOIN_SECONDS)

    def enter_loop(self) -> None:
        """Forget a task of an event loop that has ended."""
        if self._task and self._task.get_loop() is not asyncio.get_running_loop():
            if self._dispatcher:
                self._dispatcher.abandon()
            self._task = self._dispatcher = None

    async def _run(self, dispatcher: "Dispatcher") -> None:
        lifeline = self._lifeline
        try:
            async with aclosing(lifeline.batches(claim=dispatcher.claim)) as batches:
                async for batch in batches:
                    if lifeline.session is not None:
                        await dispatcher.take(batch, lifeline.session)
            await dispatcher.finish()
        except PlantopsError as exc:
            logger.error("stopped listening: %s", exc)
            raise
        except Exception:
            logger.exception("stopped listening")
            raise
        finally:
            await dispatcher.leave(DRAIN_SECONDS)
            self._tally.rates.tell_left_out()


def _retrieve(task: asyncio.Task[None]) -> None:
    """Look at the outcome of a background task, so that asyncio does not report it a second time."""
    if not task.cancelled():
        task.exception()
