"""Who handles messages: tasks that take them from a lane, one after the other, and see that each is done with."""

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, NamedTuple, Protocol

from plantops_cli.errors import HandlerTimeoutError, PayloadError, PlantopsError
from plantops_cli.messages import Message, Publish
from plantops_cli.stream.handling.handlers import Call
from plantops_cli.stream.handling.lane import Lane
from plantops_cli.stream.handling.ledger import ACKNOWLEDGED_TOGETHER, Failure, Work
from plantops_cli.stream.handling.policy import DeadLetter, Retry
from plantops_cli.stream.handling.registration import Registration
from plantops_cli.stream.handling.tally import Tally, shown
from plantops_cli.stream.handling.threads import Threads
from plantops_cli.stream.handling.turns import Turns
from plantops_cli.stream.packets import QOS_1_OR_2
from plantops_cli.stream.rates import Rates

logger = logging.getLogger("plantops.stream")

GRACE_SECONDS = 1.0
"""How long a handler may take to end that was cancelled because it took too long; then it is left to itself."""

# nobody waits longer than that for the acknowledgement of a message that was handled in a thread
_IN_A_THREAD_SECONDS = 0.002
_DEAD_LETTER_SECONDS = 30.0


_Outcome = tuple[object, BaseException | None]


class Crew(Protocol):
    """What workers share, and whom they tell what has become of a message.

    Attributes:
        tally: counts what failed.
        threads: where handlers run that block.
        turns: whose turn it is to begin something.
        publish: as ``MQTTSubscriber.publish``.
        has_properties: whether what is published may have properties.
        is_leaving: whether the end has come.
    """

    tally: Tally
    threads: Threads
    turns: Turns
    publish: Publish
    is_leaving: bool

    @property
    def has_properties(self) -> bool: ...
    def put_off(self, team: Any, work: Work, seconds: float) -> None: ...
    def keep(self, team: Any, work: Work) -> None: ...


class Colleagues(Protocol):
    """Those who take messages of the same lane.

    Attributes:
        lane: where they take them.
    """

    lane: Lane

    def rouse(self) -> None: ...
    def roused(self) -> None: ...
    def replace(self, worker: "Worker") -> None: ...
    async def rest(self) -> None: ...


class Rest(NamedTuple):
    """What is left to be done with a message that another worker had in hand.

    Attributes:
        work: the message.
        position: of the first handler that is still to be called.
        failed: the handlers before it that have failed.
    """

    work: Work
    position: int
    failed: list[Failure]


class Worker:
    """Handles messages of one lane until it is dismissed.

    Args:
        team: with whom it shares the lane.
        crew: what it shares with all others.
        rest: a message that another one had in hand.

    Attributes:
        task: what it works in, once it was started.
        work: what it has in hand, or None.
        call: the handler that was called last.
        is_left: True when another one has taken its place, for its handler does not end.
        interruption: what a handler has raised while the task was being cancelled, which so has come to its end.
    """

    task: asyncio.Task[None]

    def __init__(self, team: Colleagues, crew: Crew, rest: "Rest | None" = None) -> None:
        self.work: Work | None = None
        self.call: Call | None = None
        self.is_left = False
        self.interruption: BaseException | None = None
        self._team = team
        self._lane = team.lane
        self._crew = crew
        self._rest = rest
        self._failed: list[Failure] = []
        self._is_dismissed = self._is_overdue = False
        self._timer: asyncio.TimerHandle | None = None

    async def work_on(self) -> None:
        """Handle one message after the other."""
        team, lane, crew, turns = self._team, self._lane, self._crew, self._crew.turns
        team.roused()
        if self._rest is not None:
            self.work = self._rest.work
            await self._handle(self.work, self._rest.position, self._rest.failed)
        while not self._is_dismissed and not self.is_left:
            work = self.work = lane.take()
            if work is None:
                await team.rest()
                continue
            if lane.concurrency > 1:
                team.rouse()
            plain = work.part.plain
            if plain is not None and not work.attempts:
                # the way of nearly all, without one call more than it takes
                self.call = plain
                try:
                    result: Any = plain.registration.call(work.message_for(plain, crew.publish))
                    if result is not None and (plain.registration.is_async or inspect.isawaitable(result)):
                        result = await result
                except BaseException as exc:
                    await self._handle(work, outcome=(None, exc))
                else:
                    if result is not None:
                        crew.tally.note_result(plain.registration.name, result)
                    lane.done(work)
                    work.settle()
            elif _is_one_of_many(work, lane):
                await self._handle_alike(work)
            else:
                await self._handle(work)
            if monotonic() >= turns.until and turns.is_over():
                await turns.next()

    def dismiss(self, *, is_cancelled: bool) -> None:
        """Let it end.

        Args:
            is_cancelled: whether what it does is cancelled, or may be done to the end.
        """
        self._is_dismissed = True
        if is_cancelled:
            self.task.cancel()

    def replacement(self) -> "Worker":
        """Make another one that goes on with what this one has in hand, behind the handler that it is in."""
        work, call = self.work, self.call
        assert work is not None
        assert call is not None
        error = self.interruption or overdue(call.registration)
        rest = Rest(work, work.calls.index(call) + 1, [*self._failed, (call, error)])
        return Worker(self._team, self._crew, rest)

    async def _handle(
        self,
        work: Work,
        position: int = 0,
        failed: Sequence[Failure] = (),
        outcome: _Outcome | None = None,
    ) -> None:
        """Call the handlers of a message, and see what has become of it.

        Args:
            work: the message.
            position: of the first handler to be called.
            failed: handlers that have failed already.
            outcome: what has come of the call of the first one already.
        """
        if work.is_last and work.failed:
            await self._fail(work, work.failed)
            return
        self._failed = list(failed)
        for call in work.calls[position:] if position else work.calls:
            error = await self._call(call, work, outcome)
            outcome = None
            if self.is_left:
                return
            if error is not None:
                self._failed.append((call, error))
        if self._failed:
            work.attempts += 1
            await self._fail(work, self._failed)
        else:
            self._done(work)

    async def _handle_alike(self, work: Work) -> None:
        """Handle messages for one blocking handler together: a change of threads takes longer than most handlers.

        The first that fails ends it, and so does the first that takes long.
        """
        works = self._lane.take_alike(work, ACKNOWLEDGED_TOGETHER)
        messages = [each.message_for(each.calls[0], self._crew.publish) for each in works]
        self.call = work.calls[0]
        attempt = partial(_attempt_each, self.call.registration.call, messages)
        *quick, last = await self._crew.threads.run(attempt)
        for each, (result, _) in zip(works, quick, strict=False):
            if result is not None:
                self._crew.tally.note_result(each.calls[0].registration.name, result)
            self._done(each)
        self._lane.give_back(works[len(quick) + 1 :])
        work = self.work = works[len(quick)]
        await self._handle(work, outcome=last)

    def _done(self, work: Work) -> None:
        self._lane.done(work)
        work.settle()

    # A handler

    async def _call(self, call: Call, work: Work, outcome: _Outcome | None = None) -> BaseException | None:
        """Call a handler, and return what it has raised.

        Args:
            call: the handler.
            work: the message.
            outcome: what has come of the call already.
        """
        self.call = call
        registration, message = call.registration, work.message_for(call, self._crew.publish)
        if registration.timeout_seconds is not None and not registration.is_blocking:
            self._limit(registration.timeout_seconds)
        error: BaseException | None
        try:
            result = await self._result(registration, message, outcome)
            error = self._overdue(registration)
        except PayloadError as exc:
            error = self._overdue(registration) or exc
            if exc.handler is not None and error is exc:  # else the handler has raised it
                return await self._note_invalid(registration, message, exc)
        except BaseException as exc:
            error = self._overdue(registration) or exc
            if _is_for_us(exc, self.task):
                self.interruption = exc
                raise
        else:
            if result is not None:
                self._crew.tally.note_result(registration.name, result)
        return error

    async def _result(self, registration: Registration, message: Message, outcome: _Outcome | None) -> object:
        if outcome is None and registration.is_blocking:
            attempt, seconds = partial(_attempt, registration.call, message), registration.timeout_seconds
            # its time runs when it is called: what waits for a thread has not even seen its message
            begun = None if seconds is None else partial(self._limit, seconds)
            outcome = await self._crew.threads.run(attempt, begun)
        result, error = outcome or (registration.call(message), None)
        if error is not None:
            raise error
        return await result if result is not None and inspect.isawaitable(result) else result

    async def _note_invalid(
        self, registration: Registration, message: Message, error: PayloadError
    ) -> BaseException | None:
        """Count a message that does not fit, and return what who is told of it has raised."""
        on_invalid = registration.on_invalid
        self._crew.tally.note_invalid(registration.name, message, error, is_told=on_invalid is not None)
        if on_invalid is None:
            return None
        try:
            await self._invoke(on_invalid, message, error)
        except BaseException as exc:
            if _is_for_us(exc, self.task):
                raise
            return exc
        return None

    async def _invoke(self, function: Callable[..., object], *args: object) -> None:
        """Call a function of the user beside the handlers: in a thread, if it is no coroutine function."""
        if inspect.iscoroutinefunction(function):
            await function(*args)
            return
        result, error = await self._crew.threads.run(partial(_attempt, function, *args))
        if error is not None:
            raise error
        if inspect.isawaitable(result):
            await result

    # A handler that takes too long

    def _limit(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._overrun)

    def _overrun(self) -> None:
        self._is_overdue = True
        self.task.cancel()
        self._timer = asyncio.get_running_loop().call_later(GRACE_SECONDS, self._leave)

    def _leave(self) -> None:
        self.is_left = True
        self._team.replace(self)

    def _overdue(self, registration: Registration) -> HandlerTimeoutError | None:
        """Return an error if the call that has ended took too long, and forget that."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._is_overdue:
            return None
        self._is_overdue = False
        self.task.uncancel()
        return overdue(registration)

    # A handler that has failed

    async def _fail(self, work: Work, failed: Sequence[Failure]) -> None:
        """Do with a message what the policies of its handlers say."""
        again: list[Failure] = []
        delay_seconds = 0.0
        for call, error in failed:
            policy = call.registration.on_error
            seconds = None if work.is_last else _delay_seconds(policy, work.attempts, self._crew.tally.rates)
            self._tell(work, call, error, seconds)
            if seconds is not None:
                again.append((call, error))
                delay_seconds = max(delay_seconds, seconds)
            elif not await self._give_up(work, call, error):
                work.wants_keep = True
        if again:
            work.failed, work.calls = again, tuple(call for call, _ in again)
            self._crew.put_off(self._team, work, delay_seconds)
        elif work.wants_keep and work.packet[0] & QOS_1_OR_2:
            self._crew.keep(self._team, work)
        else:
            self._done(work)

    def _tell(self, work: Work, call: Call, error: BaseException, delay_seconds: float | None) -> None:
        tally, registration = self._crew.tally, call.registration
        if work.is_last and work.failed:  # told before
            return
        what = "" if delay_seconds is None else f", attempt {work.attempts}; again in {delay_seconds:.1f} s"
        if isinstance(error, PlantopsError):
            what += f" ({error.hint})" if error.hint else ""
        elif isinstance(error, RuntimeError) and registration.is_blocking and "event loop" in str(error):
            what += " (a plain function runs in a thread; blocking=False calls it on the event loop)"
        tally.fail(f"handler {registration.name}", work.message_for(call, self._crew.publish), error, what)

    async def _give_up(self, work: Work, call: Call, error: BaseException) -> bool:
        """Do what follows on the last attempt; False when the message is to come again."""
        policy = call.registration.on_error
        if not isinstance(policy, Retry):
            return policy == "ack"
        if policy.then == "ack":
            return True
        message = work.message_for(call, self._crew.publish)
        try:
            if isinstance(policy.then, DeadLetter):
                return await self._publish_dead_letter(policy.then, message, error, work.attempts)
            await self._invoke(policy.then, message, error)
        except BaseException as exc:
            if _is_for_us(exc, self.task):
                raise
            self._crew.tally.fail(f"Retry(then=...) of handler {call.registration.name}", message, exc)
        return True

    async def _publish_dead_letter(
        self, letter: DeadLetter, message: Message, error: BaseException, attempts: int
    ) -> bool:
        if message.topic == letter.topic:
            self._tell_of_letter(
                "message of %a dropped: it is a dead letter, and its handler failed on it, too", message
            )
            return True
        try:
            await self._crew.publish(
                letter.topic,
                message.payload,
                # MQTT 3.1.1 knows none
                properties=letter.properties(message, error, attempts) if self._crew.has_properties else None,
                wait=_DEAD_LETTER_SECONDS,
            )
        except PlantopsError as exc:
            self._tell_of_letter("message of %a kept: its dead letter cannot be published: %s", message, exc)
            return False
        self._crew.tally.dead_letters += 1
        return True

    def _tell_of_letter(self, text: str, message: Message, *arguments: object) -> None:
        if (more := self._crew.tally.rates.ask("dead letters that were not published")) is not None:
            logger.error(f"{text}%s", shown(message.topic), *arguments, more)


def overdue(registration: Registration) -> HandlerTimeoutError:
    """Make the error of a call that took too long."""
    return HandlerTimeoutError(f"handler {registration.name} took longer than {registration.timeout_seconds:g} s")


def _is_one_of_many(work: Work, lane: Lane) -> bool:
    """Tell whether a message may be handled together with others of the same handler."""
    registration = work.calls[0].registration
    return (
        registration.is_blocking
        and lane.concurrency == 1
        and len(work.calls) == 1
        and registration.timeout_seconds is None
        and not work.attempts
    )


def _attempt(function: Callable[..., object], *args: object) -> _Outcome:
    try:
        return function(*args), None
    except BaseException as exc:  # the program is not to be ended from a thread
        return None, exc


def _attempt_each(function: Callable[[Message], object], messages: list[Message]) -> list[_Outcome]:
    outcomes: list[_Outcome] = []
    until = monotonic() + _IN_A_THREAD_SECONDS
    for message in messages:
        outcomes.append(_attempt(function, message))
        result, error = outcomes[-1]
        if error is not None or (result is not None and inspect.isawaitable(result)) or monotonic() > until:
            break
    return outcomes


def _delay_seconds(policy: object, attempts: int, rates: Rates) -> float | None:
    if not isinstance(policy, Retry):
        return None
    try:
        return policy.delay_seconds(attempts)
    except Exception:
        if (more := rates.ask("failures of the backoff of a Retry")) is not None:
            logger.exception("the backoff of a Retry failed: no further attempt is made%s", more)
        return None


def _is_for_us(exc: BaseException, task: asyncio.Task[None]) -> bool:
    """Tell whether an exception was not raised by a handler for reasons of its own, but is to end this task."""
    if isinstance(exc, GeneratorExit):  # of a task whose event loop is gone, unless it is at work
        return asyncio.current_task(task.get_loop()) is not task
    return isinstance(exc, KeyboardInterrupt) or task.cancelling() > 0
