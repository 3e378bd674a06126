"""Messages as they were published, and what became of one: values that a test compares."""

from dataclasses import dataclass

from plantops_cli.errors import PayloadError
from plantops_cli.messages import Message


class Published(Message):
    """A message as it was published: equal to any with the same topic, payload, QoS, retain flag and properties.

    So a test may compare it with ``Message.of(...)``, whatever identifier it had and whenever it was sent.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return _said(self) == _said(other) if isinstance(other, Message) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.topic, self.payload))


def _said(message: Message) -> tuple[object, ...]:
    return message.topic, message.payload, message.qos, message.retain, dict(message.properties)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of a message that a test has delivered.

    Attributes:
        message: as the subscriber got it, at the QoS that its subscription was granted.
        is_acknowledged: whether it was acknowledged; at QoS 0, where nobody is told, whether it was handled.
        errors: what its handlers have raised, one for each call that failed.
    """

    message: Published
    is_acknowledged: bool
    errors: tuple[BaseException, ...]

    @property
    def is_invalid(self) -> bool:
        """Whether it did not fit the types of a handler."""
        return any(isinstance(error, PayloadError) for error in self.errors)
