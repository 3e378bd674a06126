"""The workers of one lane: as many as there is work for, at most as many as may work at once."""

import asyncio
from collections.abc import Callable

from plantops_cli.stream.handling.lane import Lane
from plantops_cli.stream.handling.worker import Crew, Worker

# by then whoever reads was cancelled, too, if all were
_INTERRUPTION_SECONDS = 0.1


class Team:
    """Starts workers as they are needed, each by the one before: most handlers end before a second could begin.

    Args:
        lane: where they take messages.
        crew: what they share with other teams.
        on_idle: called when a worker has found nothing to do.
        on_failure: called with what has ended a worker, which is a fault of ours.

    Attributes:
        lane: as given.
        workers: those who work, or rest.
    """

    def __init__(
        self, lane: Lane, crew: Crew, on_idle: Callable[[], None], on_failure: Callable[[BaseException], None]
    ) -> None:
        self.lane = lane
        self.workers: set[Worker] = set()
        self._left: set[Worker] = set()
        self._crew = crew
        self._on_idle = on_idle
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._resting: list[asyncio.Future[None]] = []
        self._is_rousing = self._is_dismissed = False

    def rouse(self) -> None:
        """Let one more of them work if there is something to do; that one rouses the next."""
        if self._is_rousing or not self.lane.has_work:
            return
        while self._resting:
            resting = self._resting.pop()
            if not resting.done():
                self._is_rousing = True
                resting.set_result(None)
                return
        if len(self.workers) < self.lane.concurrency:
            self._is_rousing = True
            self._begin(Worker(self, self._crew))

    def roused(self) -> None:
        """Take note that the one who was roused is at work."""
        self._is_rousing = False

    def is_quiet(self, asking: "asyncio.Task[object] | None") -> bool:
        """Tell whether nothing is to be done, but by the task that asks.

        Args:
            asking: a task that may be one of a worker, whose handler then waits for the others.
        """
        lane = self.lane
        is_one_of_us = any(worker.task is asking for worker in self.workers)
        if lane.in_hand > is_one_of_us:
            return False
        return not lane.has_work or (is_one_of_us and lane.concurrency == 1)

    async def rest(self) -> None:
        """Wait until there is something to do."""
        resting = self._loop.create_future()
        self._resting.append(resting)
        self._on_idle()
        await resting
        self._is_rousing = False

    def replace(self, worker: Worker) -> None:
        """Let another one go on with what a worker has in hand whose handler does not end."""
        self.workers.discard(worker)
        self._left.add(worker)
        self._begin(worker.replacement())

    def dismiss(self) -> "list[asyncio.Task[None]]":
        """Cancel whoever works still, but for the caller, and return their tasks; nobody begins any more."""
        current = asyncio.current_task()
        workers = [worker for worker in (*self.workers, *self._left) if not worker.task.done()]
        for worker in () if self._is_dismissed else workers:
            worker.dismiss(is_cancelled=worker.task is not current)
        self._is_dismissed = True
        return [worker.task for worker in workers if worker.task is not current]

    def _begin(self, worker: Worker) -> None:
        if self._is_dismissed:
            return
        self.workers.add(worker)
        worker.task = self._loop.create_task(worker.work_on(), name="plantops-handler")
        worker.task.add_done_callback(lambda _: self._ended(worker))

    def _ended(self, worker: Worker) -> None:
        self.workers.discard(worker)
        self._left.discard(worker)
        if worker.task.cancelled():
            if worker.interruption and not worker.is_left and not self._is_dismissed:
                self._loop.call_later(_INTERRUPTION_SECONDS, self._go_on, worker)
        elif failure := worker.task.exception():
            self._on_failure(failure)

    def _go_on(self, worker: Worker) -> None:
        """Go on for a worker whose handler has cancelled the task that it runs in.

        Or so it seems: when a program ends without a word it cancels all tasks, and then nothing is to be begun.
        """
        if not self._crew.is_leaving:
            self._begin(worker.replacement())
        elif worker.work is not None:
            self.lane.put_off(worker.work)
            self._on_idle()
