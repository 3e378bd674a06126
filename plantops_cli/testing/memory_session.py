"""What a broker in memory knows of its only client: the session, what was published, and what it refuses."""

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from plantops_cli.messages import Message, check_qos, now
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.port import Owner, Receiver
from plantops_cli.stream.publishing import PublishRequest
from plantops_cli.testing.encoding import packet_of
from plantops_cli.testing.memory_line import MemoryLine
from plantops_cli.testing.published import Published
from plantops_cli.topics import matches

_PACKET_IDENTIFIERS = 65_535


@dataclass
class Sent:
    """A message that is on its way to the client, or waits for a connection to be sent again.

    Attributes:
        message: as the client gets it.
        line: on which it was sent last.
        settled: True when it was acknowledged, False when that line has ended before.
        errors: what its handlers have raised.
    """

    message: Published
    line: MemoryLine
    settled: asyncio.Future[bool]
    errors: list[BaseException] = field(default_factory=list)


class MemorySession:
    """The other end of each line.

    Attributes:
        published: messages of the client, oldest first.
        acknowledged: messages that the client has acknowledged, in that order.
        subscriptions: the QoS granted to each topic filter.
        sent: what is on its way to the client, by packet identifier.
        line: the connection at hand, or None.
        is_kept: whether there is a session that a client may resume.
        connection_count: connections made so far.
        is_stopped: whether nobody listens.
        answer_seconds: how late answers are.
        login_code: of the next CONNACK; 0 accepts.
        refused_filters: the code of the SUBACK for some topic filters.
        refused_topics: the code of the PUBACK for the topics that some filters match.
    """

    def __init__(self) -> None:
        self.published: list[Message] = []
        self.acknowledged: list[Message] = []
        self.subscriptions: dict[str, int] = {}
        self.sent: dict[int, Sent] = {}
        self.line: MemoryLine | None = None
        self.is_kept = False
        self.connection_count = 0
        self.is_stopped = False
        self.answer_seconds = 0.0
        self.login_code = 0
        self.refused_filters: dict[str, int] = {}
        self.refused_topics: dict[str, int] = {}
        self._unreleased: set[int] = set()
        self._identifiers = itertools.cycle(range(1, _PACKET_IDENTIFIERS + 1))

    def make_line(self, options: ConnectOptions, owner: Owner, receiver: Receiver) -> MemoryLine:
        """Make the client of a connection that ends here."""
        return MemoryLine(options, owner, receiver, other_end=self)

    def granted(self, topic: str) -> int | None:
        """Return the highest QoS that a message of a topic may have, or None when no subscription matches."""
        return max((qos for name, qos in self.subscriptions.items() if matches(name, topic)), default=None)

    def send(self, line: MemoryLine, request: PublishRequest, qos: int) -> Sent:
        """Send a message to the client.

        Args:
            line: the connection.
            request: the message.
            qos: at which it is sent.
        """
        # one of QoS 0 has an identifier, too, which no real one has: by it we hear that it was handled
        mid = next(each for each in self._identifiers if each not in self.sent and each not in self._unreleased)
        message = Published(
            topic=request.topic,
            payload=request.payload,
            qos=check_qos(qos),
            retain=request.retain,
            dup=False,
            mid=mid,
            properties=request.properties if line.is_v5 else {},
            received_at=now(),
        )
        sent = self.sent[mid] = Sent(message, line, line.loop.create_future())
        line.feed(packet_of(message))
        return sent

    def note_failure(self, message: Message, error: BaseException) -> None:
        """Take note of what a handler has raised."""
        if message.mid in self.sent:
            self.sent[message.mid].errors.append(error)

    # What comes over a line

    def accept(self, line: MemoryLine) -> tuple[int, bool]:
        """Answer CONNECT: the code of the CONNACK, and whether the session is resumed."""
        if self.login_code:
            return self.login_code, False
        is_resumed = self.is_kept
        if not is_resumed:
            self._forget()
        self.is_kept = line.is_durable
        self.line = line
        self.connection_count += 1
        for sent in self.sent.values():
            sent.line, sent.message = line, replace(sent.message, dup=True)
            line.feed(packet_of(sent.message))
        return 0, is_resumed

    def hears(self, line: MemoryLine) -> bool:
        """Tell whether a line has not been cut: what is sent on one that was gets lost."""
        return self.line is line

    def take_subscribe(self, filters: Mapping[str, int]) -> list[int]:
        """Answer SUBSCRIBE: the codes of the SUBACK."""
        codes = {name: self.refused_filters.get(name, qos) for name, qos in filters.items()}
        self.subscriptions |= {name: code for name, code in codes.items() if name not in self.refused_filters}
        return list(codes.values())

    def take_publish(self, request: PublishRequest) -> int:
        """Answer PUBLISH: the code of the PUBACK; and send the message back to a client that subscribes to it."""
        refusal = (code for name, code in self.refused_topics.items() if matches(name, request.topic))
        if code := next(refusal, 0):
            return code
        self.published.append(_published(request))
        granted = self.granted(request.topic)
        if self.line is not None and granted is not None:
            self.send(self.line, replace(request, retain=False), min(request.qos, granted))
        return 0

    def take_acknowledgement(self, mid: int, *, is_pubrec: bool) -> None:
        """Take note of a PUBACK or a PUBREC."""
        sent = self.sent.pop(mid, None)
        if is_pubrec:
            self._unreleased.add(mid)
        if sent is None:
            return
        if sent.message.qos:
            self.acknowledged.append(sent.message)
        _settle(sent, is_acknowledged=True)

    def take_pubcomp(self, mid: int) -> None:
        """Take note of a PUBCOMP: the identifier may be used again."""
        self._unreleased.discard(mid)

    def left(self, line: MemoryLine) -> None:
        """Take note that a line has ended."""
        if self.line is line:
            self.line = None
        gone = [mid for mid, sent in self.sent.items() if sent.line is line]
        for mid in gone:
            _settle(self.sent[mid], is_acknowledged=False)
            if not self.sent[mid].message.qos or not line.is_durable:
                del self.sent[mid]

    def _forget(self) -> None:
        self.subscriptions.clear()
        self.sent.clear()
        self._unreleased.clear()


def _published(request: PublishRequest) -> Published:
    return Published.of(
        request.topic,
        request.payload,
        qos=request.qos,
        retain=request.retain,
        properties=request.properties,
    )


def _settle(sent: Sent, *, is_acknowledged: bool) -> None:
    if not sent.settled.done():
        sent.settled.set_result(is_acknowledged)
