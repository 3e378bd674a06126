"""What a session needs of the client of a connection, whoever makes it: the network, or a test."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from plantops_cli.errors import BrokerError
from plantops_cli.stream.answers import Answers
from plantops_cli.stream.hearing import Hearing
from plantops_cli.stream.inbox import Inbox
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.packets import Packet
from plantops_cli.stream.publishing import PublishRequest
from plantops_cli.stream.receipts import Unanswered


class Owner(Protocol):
    """What a client tells the session that it belongs to.

    Attributes:
        ended: why the connection has ended, or None.
        filters: the topic filters asked for so far, and the QoS of each.
    """

    @property
    def ended(self) -> BrokerError | None: ...
    @property
    def filters(self) -> Mapping[str, int]: ...
    def begun(self, *, is_resumed: bool, granted: Mapping[str, object]) -> None: ...
    def end(self, error: BrokerError, *, by_us: bool) -> None: ...
    def fail(self, error: BrokerError) -> None: ...
    def trust_qos(self) -> None: ...


class Receiver(Protocol):
    """Who gets the messages.

    Attributes:
        inbox: what waits of them.
        reader: the task that takes them out, or None.
    """

    inbox: Inbox
    reader: asyncio.Task[Any] | None

    def take(self, packets: list[Packet], size: int) -> None: ...
    def take_exactly_once(self, packets: list[Packet], size: int) -> None: ...


class Readable(Protocol):
    """The reading of a connection.

    Attributes:
        read_at: when something was read last, by the clock of the event loop; 0 before.
        is_paused: True while it is left unread, whatever comes.
        hearing: when the broker was heard.
    """

    hearing: Hearing

    @property
    def read_at(self) -> float: ...
    @property
    def is_paused(self) -> bool: ...
    def resume(self) -> None: ...
    def silent_since(self, *, is_given_up: bool) -> float: ...


class Writable(Protocol):
    """The writing of a connection."""

    def push(self, data: bytes) -> None: ...


class Line(Protocol):
    """The connection on which messages are acknowledged, and read again when there is room."""

    @property
    def reading(self) -> Readable: ...
    @property
    def writing(self) -> Writable: ...
    @property
    def is_open(self) -> bool: ...
    def ask(self, answered: Callable[[], None]) -> None: ...
    def break_off(self, exc: Exception) -> None: ...


class ClientPort(Line, Protocol):
    """A client; ``client.Client`` says what each method does.

    Attributes:
        answers: those who wait for the broker.
        is_version_refused: as in ``Session``.
        is_version_a_guess: as in ``Session``.
    """

    answers: Answers
    is_version_refused: bool
    is_version_a_guess: bool

    async def reach(self, seconds: float) -> None: ...
    async def connack(self, silence_seconds: float | None) -> None: ...
    def answerable(self) -> AbstractAsyncContextManager[None]: ...
    async def publish_once(self, request: PublishRequest) -> int | Unanswered: ...
    async def subscribe_for_codes(
        self, filters: Mapping[str, int], *, is_resumed: bool, timeout_seconds: float
    ) -> list[int]: ...
    def limit_qos(self, max_qos: int) -> None: ...
    def end_waiting(self) -> None: ...
    def abort(self) -> None: ...
    async def leave(self, timeout_seconds: float) -> None: ...


MakeClient = Callable[[ConnectOptions, Owner, Receiver], ClientPort]
"""Makes the client of one connection."""
