"""Who gets what: the handlers, by the topic filter that they are registered for."""

import logging
from collections.abc import Hashable, Mapping
from typing import NamedTuple, Unpack

from plantops_cli.errors import ConfigError
from plantops_cli.stream.handling.policy import ErrorPolicy, check_policy
from plantops_cli.stream.handling.registration import Handler, PlainOptions, Registration
from plantops_cli.topics import Pattern, device_topic, matches

_NO_CAPTURES: Mapping[str, str] = {}


logger = logging.getLogger("plantops.stream")


class Call(NamedTuple):
    """A handler, and what its pattern captures of a topic."""

    registration: Registration
    captures: Mapping[str, str]


class Part(NamedTuple):
    """Handlers that are called one after the other with a message of a topic.

    Attributes:
        calls: the handlers.
        owner: the only one of them, when it may have several messages in hand; None for those that take turns.
        key: what tells which messages must keep their order, where no function says so.
        plain: the only one of them, when it is called on the event loop and may take any time.
    """

    calls: tuple[Call, ...]
    owner: Registration | None
    key: Hashable
    plain: Call | None


NOBODY = Part((), None, None, None)
"""The part of nobody."""


class Handlers:
    """The handlers of a subscriber.

    Args:
        on_error: what becomes of a message whose handler fails, where that says nothing else.
        is_durable: whether the broker keeps what is not acknowledged.

    Attributes:
        by_filter: the handlers by topic filter, in the order of registration.
        version: another one after each change.

    Raises:
        ConfigError: there is no such policy.
    """

    def __init__(self, on_error: ErrorPolicy = "ack", *, is_durable: bool = True) -> None:
        self.by_filter: dict[str, list[Handler]] = {}
        self._on_error = check_policy(on_error)
        self._is_durable = is_durable
        self._registrations: list[Registration] = []
        self.version = 0

    def make(self, pattern: Pattern, handler: Handler, **options: Unpack[PlainOptions]) -> Registration:
        """Check a handler and its options, and return them as they are to be added.

        Raises:
            ConfigError: as ``Registration``, or another handler of the filter takes its payload for another model.
        """
        made = Registration(pattern, handler, self._on_error, **options)
        for other in self._registrations:
            if other.pattern.topic_filter != pattern.topic_filter:
                continue
            if _contradict(made, other):
                raise ConfigError(
                    f"handlers {other.name} and {made.name} take {pattern.topic_filter!r} for different models",
                    hint="one model for all handlers of a filter, or a filter for each",
                )
            if made.handler == other.handler and made.options != other.options:
                raise ConfigError(
                    f"handler {made.name} is registered for {pattern.topic_filter!r} with other options already",
                    hint="a handler is called once a message: register it once",
                )
        return made

    def note(self, topic_filter: str) -> None:
        """Take note of a topic filter that may have no handler."""
        self.by_filter.setdefault(topic_filter, [])

    def add(self, registration: Registration) -> None:
        """Call a handler with each message that matches from now on."""
        self.note(registration.pattern.topic_filter)
        self.by_filter[registration.pattern.topic_filter].append(registration.handler)
        if registration.on_error == "keep" and not self._is_durable:
            logger.warning(
                "handler %s keeps messages on which it fails, which come again in a durable session only",
                registration.name,
            )
        self._registrations.append(registration)
        self.version += 1

    def forget(self, topic_filter: str) -> None:
        """Drop a filter and its handlers."""
        del self.by_filter[topic_filter]
        self._registrations = [r for r in self._registrations if r.pattern.topic_filter != topic_filter]
        self.version += 1

    def route(self, topic: str) -> tuple[Part, ...]:
        """Find the handlers of a topic, each once, in the order of registration.

        Args:
            topic: a valid topic name.
        """
        device = device_topic(topic)
        key = topic if device is None else device.device_id
        found: list[Registration] = []
        for registration in self._registrations:
            is_wanted = matches(registration.pattern.topic_filter, topic)
            if is_wanted and not any(registration.handler == other.handler for other in found):
                found.append(registration)  # by two filters, yet called once; and one may have no hash
        calls = [Call(r, r.pattern.captures(topic) or _NO_CAPTURES) for r in found]
        in_turn = tuple(call for call in calls if call.registration.concurrency == 1)
        parts = [_part(in_turn, None, key)] if in_turn else []
        parts += [_part((call,), call.registration, key) for call in calls if call.registration.concurrency > 1]
        return tuple(parts)


def _part(calls: tuple[Call, ...], owner: Registration | None, key: Hashable) -> Part:
    first = calls[0].registration
    is_plain = len(calls) == 1 and not first.is_blocking and first.timeout_seconds is None
    return Part(calls, owner, key, calls[0] if is_plain else None)


def _contradict(one: Registration, other: Registration) -> bool:
    types = one.payload_type, other.payload_type
    return None not in types and types[0] != types[1]
