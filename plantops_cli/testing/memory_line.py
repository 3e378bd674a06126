"""One connection to a broker in memory: what stands in the place of ``stream.client.Client``.

No socket, no thread, no paho: messages come as the tuples that the reading of a socket would bring, and what is
pushed back is read as the bytes that it is. All else is the real thing.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Protocol, TypeVar

from plantops_cli.errors import BrokerError, ConnectionLostError, HeldUpError
from plantops_cli.stream import failures, unconnected
from plantops_cli.stream.answers import Answers, unless_silent
from plantops_cli.stream.hearing import Hearing
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.packets import PUBREL, QOS_2, Packet
from plantops_cli.stream.port import Owner, Receiver
from plantops_cli.stream.publishing import PublishRequest
from plantops_cli.stream.receipts import Unanswered
from plantops_cli.stream.waiting import unless

_PUBACK, _PUBREC, _PUBCOMP = 0x40, 0x50, 0x70
_ACKNOWLEDGEMENT_BYTES = 4
_NAMES = {
    0x86: "Bad user name or password",
    0x87: "Not authorized",
    0x88: "Server unavailable",
    0x97: "Quota exceeded",
}
_OF_PAHO = {
    "PayloadFormatIndicator": "payload-format-indicator",
    "MessageExpiryInterval": "message-expiry-interval",
    "ContentType": "content-type",
    "ResponseTopic": "response-topic",
    "CorrelationData": "correlation-data",
    "UserProperty": "user-properties",
}
_T = TypeVar("_T")


class OtherEnd(Protocol):
    """The broker at the other end of a line.

    Attributes:
        is_stopped: whether nobody listens.
        answer_seconds: how late it answers.
    """

    is_stopped: bool
    answer_seconds: float

    def accept(self, line: "MemoryLine") -> tuple[int, bool]: ...
    def hears(self, line: "MemoryLine") -> bool: ...
    def take_subscribe(self, filters: Mapping[str, int]) -> list[int]: ...
    def take_publish(self, request: PublishRequest) -> int: ...
    def take_acknowledgement(self, mid: int, *, is_pubrec: bool) -> None: ...
    def take_pubcomp(self, mid: int) -> None: ...
    def left(self, line: "MemoryLine") -> None: ...


class MemoryLine:
    """The client of one connection, from CONNECT to its end; used once.

    Args:
        options: where to connect and as whom; nothing of it is looked up.
        owner: is told what happens to the connection.
        receiver: gets the messages.
        other_end: the broker.

    Attributes:
        loop: the event loop that it belongs to.
        options: as given.
        answers, reading, writing, is_version_refused, is_version_a_guess: as in ``Client``.
    """

    def __init__(self, options: ConnectOptions, owner: Owner, receiver: Receiver, *, other_end: OtherEnd) -> None:
        self.loop = asyncio.get_running_loop()
        self.options = options
        self.answers = Answers()
        self.reading = Inflow(receiver, self.answers, self.break_off)
        self.writing = WayBack(self._hear)
        self.is_version_refused = self.is_version_a_guess = False
        self._owner = owner
        self._receiver = receiver
        self._other_end = other_end
        self._is_accepted = False

    @property
    def is_open(self) -> bool:
        """True from a CONNACK that accepts until the end of the connection."""
        return self._is_accepted and not self.answers.ended.is_set()

    @property
    def is_durable(self) -> bool:
        """Whether the broker is asked to keep the session."""
        return self.options.session_expiry_seconds is not None

    @property
    def is_v5(self) -> bool:
        """Whether messages may have properties."""
        return self.options.mqtt_version is MQTTVersion.V5

    # Opening

    async def reach(self, seconds: float) -> None:
        """Find the broker, or find that nobody listens; as ``Client.reach``."""
        await asyncio.sleep(0)
        if self._other_end.is_stopped:
            is_tls = self.options.tls is not None
            refused = ConnectionRefusedError()
            raise unconnected.connect_failed(refused, endpoint=self.options.endpoint, is_tls=is_tls)

    async def connack(self, silence_seconds: float | None) -> None:
        """Hear whether the broker lets us in; as ``Client.connack``."""
        code, is_resumed = self._other_end.accept(self)
        if code:
            raise unconnected.connect_refused(
                code,
                name_of(code),
                endpoint=self.options.endpoint,
                username=self.options.username,
                has_password=not self.options.is_token,
            )
        self._is_accepted = True
        self._owner.begun(is_resumed=is_resumed, granted={})

    # From the broker

    def feed(self, packet: Packet) -> None:
        """Let a message, or a PUBREL, come from the broker."""
        first, topic, _, properties, payload = packet
        size = len(topic) + len(properties) + len(payload)
        take = self._receiver.take_exactly_once if first == PUBREL or first & QOS_2 else self._receiver.take
        self.reading.put(lambda: take([packet], size))

    def end(self, code: int | None) -> None:
        """Let the broker end the connection, behind all that it has sent.

        Args:
            code: of its DISCONNECT (MQTT 5, 3.14.2.1); None when it says none.
        """
        error = failures.disconnected(
            code or 0,
            name_of(code or 0),
            endpoint=self.options.endpoint,
            by_broker=code is not None,
            is_durable=self.is_durable,
        )
        self.reading.put(lambda: self._end(error))

    def _end(self, error: BrokerError) -> None:
        self._owner.end(error, by_us=False)
        self.abort()

    def break_off(self, exc: Exception) -> None:
        """Give the connection up; as ``Client.break_off``."""
        self._owner.fail(failures.tripped_over(exc, endpoint=self.options.endpoint)[1])

    # To the broker

    def _hear(self, first: int, mid: int) -> None:
        if not self.is_open or not self._other_end.hears(self):
            return
        if first == _PUBCOMP:
            self._other_end.take_pubcomp(mid)
            return
        self._other_end.take_acknowledgement(mid, is_pubrec=first == _PUBREC)
        if first == _PUBREC:
            self.feed((PUBREL, b"", mid, b"", b""))

    def ask(self, answered: Callable[[], None]) -> None:
        """Call back when the broker has answered to all that came before; as ``Client.ask``."""
        self.reading.put(answered)

    def answerable(self) -> AbstractAsyncContextManager[None]:
        """Raise HeldUpError as soon as an answer cannot be waited for; as ``Client.answerable``."""
        is_ours_to_take = asyncio.current_task() is self._receiver.reader
        return self.answers.unless_held_up(self._held_up, is_blocked=self.reading.is_paused and is_ours_to_take)

    async def publish_once(self, request: PublishRequest) -> int | Unanswered:
        """Publish, and return the reason code; as ``Client.publish_once``."""
        if not self.is_open:
            return Unanswered.NOT_SENT
        if not self._other_end.hears(self):
            await self.answers.ended.wait()
            return Unanswered.LOST
        code = self._other_end.take_publish(request)
        if not request.qos:
            return 0
        with self.reading.read_on():
            async with self.answerable():
                answer = await unless(self.answers.ended, self._answer(code))
        return Unanswered.LOST if answer is None else answer

    async def subscribe_for_codes(
        self, filters: Mapping[str, int], *, is_resumed: bool, timeout_seconds: float
    ) -> list[int]:
        """Subscribe, and return the reason codes; as ``Client.subscribe_for_codes``."""
        codes = self._other_end.take_subscribe(filters)
        try:
            async with unless_silent(timeout_seconds, lambda: self.reading.heard):
                return await self._answer(codes)
        except TimeoutError:
            raise self._lost(f"no answer to SUBSCRIBE within {timeout_seconds:.3g} s") from None

    async def _answer(self, answer: _T) -> _T:
        """Wait until an answer has come from the broker, behind all that it has sent before."""
        answered: asyncio.Future[_T] = self.loop.create_future()

        def settle() -> None:
            if not answered.done():
                answered.set_result(answer)

        self.loop.call_later(self._other_end.answer_seconds, self.reading.put, settle)
        return await answered

    def limit_qos(self, max_qos: int) -> None:
        """Do nothing: this broker sends no other QoS than it has granted."""

    def _lost(self, what: str) -> ConnectionLostError:
        return ConnectionLostError(f"{self.options.endpoint}: {what}", endpoint=self.options.endpoint)

    def _held_up(self) -> HeldUpError:
        return failures.held_up(
            HeldUpError, self.options.endpoint, max_pending_bytes=self.options.max_pending_bytes
        )

    # As aiomqtt.Client does

    async def publish(
        self,
        topic: str,
        payload: object = None,
        qos: int = 0,
        retain: bool = False,
        properties: object = None,
        **others: object,
    ) -> None:
        """Publish, as ``aiomqtt.Client`` does; ``MQTTSubscriber.client`` is this.

        Args:
            topic: a topic name.
            payload: bytes, text, a number or None.
            qos: 0, 1 or 2.
            retain: whether the broker keeps it.
            properties: those of paho, or None.
            others: what else aiomqtt takes; it is not looked at.

        Raises:
            ConnectionLostError: the connection has ended.
        """
        given = getattr(properties, "__dict__", {})
        found = {_OF_PAHO[name]: value for name, value in given.items() if name in _OF_PAHO}
        request = PublishRequest.of(topic, payload, qos=qos, retain=retain, properties=found)
        if isinstance(await self.publish_once(request), Unanswered):
            raise self._lost("the connection was closed meanwhile")

    # Ending

    def end_waiting(self) -> None:
        """Let nobody wait for the broker any longer; as ``Client.end_waiting``."""
        self.answers.end()

    def abort(self) -> None:
        """End it on this side; may be called again and again."""
        self.reading.close()
        self.end_waiting()
        self._other_end.left(self)

    async def leave(self, timeout_seconds: float) -> None:
        """End it with a word of goodbye, which needs no time."""
        self.abort()
        await asyncio.sleep(0)


class Inflow:
    """What comes from the broker, in its order, one thing in each turn of the event loop.

    Args:
        receiver: says by its inbox whether there is room.
        answers: are told when nothing is read any more.
        on_broken: called with what the receiver has raised.

    Attributes:
        read_at, is_paused, hearing: as in ``Reading``.
    """

    def __init__(self, receiver: Receiver, answers: Answers, on_broken: Callable[[Exception], None]) -> None:
        self.hearing = Hearing(late_seconds=math.inf)
        self.read_at = 0.0
        self.is_paused = False
        self._receiver = receiver
        self._answers = answers
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._coming: deque[Callable[[], None]] = deque()
        self._is_closed = False
        self._read_count = 0
        self._waiting_count = 0

    @property
    def heard(self) -> int | None:
        """How much has come so far, or None while it is left unread."""
        return None if self.is_paused else self._read_count

    def put(self, step: Callable[[], None]) -> None:
        """Let something come behind all that was put before.

        Args:
            step: what it does when it is read.
        """
        self._coming.append(step)
        self._loop.call_soon(self._read)

    def resume(self) -> None:
        """Read again."""
        if self.is_paused:
            self.is_paused = False
            self._answers.come_again()
            for _ in self._coming:
                self._loop.call_soon(self._read)

    @contextmanager
    def read_on(self) -> Iterator[None]:
        """Read beyond what usually may wait in the block; as ``Reading.read_on``."""
        inbox = self._receiver.inbox
        self._waiting_count += 1
        inbox.extend(is_extended=True)
        if not inbox.is_full():
            self.resume()
        try:
            yield
        finally:
            self._waiting_count -= 1
            if not self._waiting_count:
                inbox.extend(is_extended=False)

    def silent_since(self, *, is_given_up: bool) -> float:
        """Return since when nothing can have been heard; as ``Reading.silent_since``."""
        return self.hearing.silent_since(is_told=not is_given_up)

    def close(self) -> None:
        """Let nothing come any more."""
        self._is_closed = True
        self._coming.clear()

    def _read(self) -> None:
        if self.is_paused or not self._coming:
            return
        self.read_at = self._loop.time()
        self.hearing.heard()
        self._read_count += 1
        try:
            self._coming.popleft()()
        except Exception as exc:  # as a socket's reader treats what its receiver raises
            self._on_broken(exc)
        if not self._is_closed and self._receiver.inbox.is_full():
            self.is_paused = True
            self._answers.stop_coming()


class WayBack:
    """What goes to the broker past the client: acknowledgements, four bytes each (MQTT 5, 3.4).

    Args:
        hear: called with the first byte and the packet identifier of each.
    """

    def __init__(self, hear: Callable[[int, int], None]) -> None:
        self._hear = hear

    def push(self, data: bytes) -> None:
        """Send whole packets."""
        for start in range(0, len(data), _ACKNOWLEDGEMENT_BYTES):
            packet: Sequence[int] = data[start : start + _ACKNOWLEDGEMENT_BYTES]
            self._hear(packet[0], packet[2] << 8 | packet[3])


def name_of(code: int) -> str:
    """Return the name of a reason code (MQTT 5, 2.4), as far as a test needs it."""
    return _NAMES.get(code, f"code 0x{code:02x}")
