"""Who gets what: the handlers, by the topic filter that they are registered for."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable

from plantops_cli.errors import ConfigError
from plantops_cli.messages import Message
from plantops_cli.stream.packets import LONGEST_TOPIC_KEPT
from plantops_cli.topics import matches

logger = logging.getLogger("plantops.stream")

Handler = Callable[[Message], Awaitable[object] | object]
"""What a message is handed to: a function or a coroutine function."""

# who publishes chooses the topics, and so could fill our memory with routes
_ROUTES_KEPT = 10_000


class Handlers:
    """The handlers of a subscriber, and the calls of them.

    Args:
        on_error: what becomes of a message whose handler raises: ``ack`` or ``keep``.

    Attributes:
        keeps_failed: whether such a message is to come again.
        by_filter: the handlers by topic filter, in the order of registration.
        failure_count: how often one has raised.

    Raises:
        ConfigError: ``on_error`` is neither of the two.
    """

    def __init__(self, on_error: str = "ack") -> None:
        if on_error not in ("ack", "keep"):
            raise ConfigError(f"on_error {on_error!r} does not exist", hint="ack or keep")
        self.keeps_failed = on_error == "keep"
        self.by_filter: dict[str, list[Handler]] = {}
        self.failure_count = 0
        self._routes: dict[str, tuple[Handler, ...]] = {}

    def add(self, topic_filter: str, handler: Handler | None) -> None:
        """Call a handler with each message that matches from now on.

        Args:
            topic_filter: a valid topic filter.
            handler: None only takes note of the filter.
        """
        handlers = self.by_filter.setdefault(topic_filter, [])
        if handler is not None:
            handlers.append(handler)
            self._routes.clear()

    def forget(self, topic_filter: str) -> None:
        """Drop a filter and its handlers."""
        del self.by_filter[topic_filter]
        self._routes.clear()

    def route(self, topic: str) -> tuple[Handler, ...]:
        """Find the handlers of a topic, each once, in the order of registration."""
        route = self._routes.get(topic)
        return self._found(topic) if route is None else route

    async def dispatch(self, message: Message) -> bool:
        """Call the handlers of a message, each of them, and tell whether none failed.

        One that raises is logged with its name and the topic, and counted.
        """
        is_handled = True
        # not by route(): it would be one more call for each message
        route = self._routes.get(message.topic)
        for handler in self._found(message.topic) if route is None else route:
            try:
                result = handler(message)
                if result is not None and inspect.isawaitable(result):
                    await result
            except (Exception, asyncio.CancelledError):
                # raised by what the handler awaited, or meant for this very task
                if _is_being_cancelled():
                    raise
                is_handled = False
                self.failure_count += 1
                name = getattr(handler, "__qualname__", type(handler).__qualname__)
                logger.exception("handler %s failed on a message of %a", name, message.topic)
        return is_handled

    def _found(self, topic: str) -> tuple[Handler, ...]:
        found = (h for name, handlers in self.by_filter.items() if matches(name, topic) for h in handlers)
        route = tuple(dict.fromkeys(found))
        if len(self._routes) >= _ROUTES_KEPT:
            self._routes.clear()
        if len(topic) <= LONGEST_TOPIC_KEPT:
            self._routes[topic] = route
        return route


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
