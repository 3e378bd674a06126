"""Every error that plantops raises on purpose.

PlantopsError                     .hint: one line of advice, or None
├── ConfigError                   a setting, a flag or a file that it names
├── TopicError (ValueError)       a topic name or filter that MQTT 4.7 or the device convention rules out
├── PayloadError (ValueError)     a message that does not fit its handler; .topic, .errors
├── HandlerTimeoutError (TimeoutError)   a handler took longer than it may
├── StateError (RuntimeError)     a method called at the wrong moment
├── OutputError                   standard output, or the file instead of it, refused a write
│   └── NoRoomError               the disk is full; it may have room again
├── ForeignFileError              a file of somebody else's, not ours to write; it is untouched
├── BrokerFileError               a file of Mosquitto's; it was left as it was
│   ├── BrokerFileBusyError       another run holds its lock
│   └── BrokerFileChangedError    another program kept rewriting it meanwhile
├── ReloadError                   the broker was not told of its new files, or did not survive it
├── ProofError                    the broker does not treat the login as it should
└── BrokerError                   .endpoint: host:port; .reason_string, .server_reference: what the broker says
    ├── BrokerUnreachableError    no connection, or no MQTT answer                     retryable
    ├── ConnectionLostError       the connection ended                                 retryable
    ├── HeldUpError               an answer lies behind messages that wait
    ├── CredentialsRefusedError   CONNACK 4, 5, 0x86 or 0x87                           fatal
    ├── SubscriptionRefusedError  SUBACK of 0x80 or more; .filters: {filter: code}     fatal
    ├── PublishRefusedError       PUBACK or PUBREC of 0x80 or more; .reason_code
    ├── CommandRefusedError       the broker refused an administrative command         fatal
    ├── SessionTakenOverError     another client uses our client id                    fatal
    └── ProtocolRefusedError      no agreement on TLS, MQTT version or client id       fatal
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

# a token is longer, or else no secret
_LONGEST_SHOWN = 8


def shown_username(username: str, *, is_alone: bool = False) -> str:
    """Write a user name as it may be shown: ``alice``, but ``alice:...``, for some type ``user:password`` there.

    Args:
        username: the user name as it is sent.
        is_alone: whether it goes without a password; a long one is cut then, for it may be a token.
    """
    if is_alone and len(username) > _LONGEST_SHOWN:
        return f"{username[:4]}..."
    user, colon, rest = username.partition(":")
    return f"{user}{colon}..." if rest else username


class PlantopsError(Exception):
    """Base of all errors of plantops; never raised itself.

    Args:
        message: what is wrong and where, in one line, without any secret.
        hint: how to mend it, in one line.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(PlantopsError):
    """A setting is missing, malformed or contradicts another one."""


class TopicError(PlantopsError, ValueError):
    """A topic name or a topic filter is not valid."""


class PayloadError(PlantopsError, ValueError):
    """A payload, or what the topic captured, is not what the handler was written for.

    Args:
        message: what does not fit, and where in it.
        topic: the topic of the message.
        errors: each thing that does not fit, as pydantic says it: ``loc``, ``msg`` and ``type``.
        handler: name of the handler that is not called because of it; None when a handler raises this itself.
        hint: how to mend it.
    """

    def __init__(
        self,
        message: str,
        *,
        topic: str,
        errors: Sequence[Mapping[str, object]] = (),
        handler: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.topic = topic
        self.errors = [dict(error) for error in errors]
        self.handler = handler


class HandlerTimeoutError(PlantopsError, TimeoutError):
    """A handler took longer than it may."""


class StateError(PlantopsError, RuntimeError):
    """A method was called at a moment at which it cannot work."""


class OutputError(PlantopsError):
    """Standard output, or the file instead of it, refused a write."""


class NoRoomError(OutputError):
    """The disk is full; the same write may succeed later."""


class ForeignFileError(PlantopsError):
    """A file to be continued holds what plantops did not write, or is a stranger's; it is untouched."""


class BrokerFileError(PlantopsError):
    """A file of Mosquitto's cannot be used or changed; it is untouched."""


class BrokerFileBusyError(BrokerFileError):
    """Another run held the lock on the file for too long."""


class BrokerFileChangedError(BrokerFileError):
    """The file was rewritten by another program each time an update was prepared."""


class ReloadError(PlantopsError):
    """The broker could not be told to read its files again, or did not survive it."""


class ProofError(PlantopsError):
    """The broker does not treat the login as it should: the right password refused, or a wrong one accepted."""


class BrokerError(PlantopsError):
    """Something between this client and the broker failed.

    Args:
        message: what happened.
        endpoint: the broker's address as ``host:port``.
        hint: how to mend it.

    Attributes:
        reason_string: what the broker said about it, its Reason String (MQTT 5, 2.2.2.2), or None. It holds no
            secret of ours, and else is as it came: escape it before a terminal sees it.
        server_reference: which server the broker said is to be used instead (MQTT 5, 4.11), or None; likewise.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, endpoint: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.endpoint = endpoint
        self.reason_string: str | None = None
        self.server_reference: str | None = None


class BrokerUnreachableError(BrokerError):
    """No connection to the broker, no MQTT answer on it, or no password to send."""

    retryable = True


class ConnectionLostError(BrokerError):
    """An established connection ended."""

    retryable = True


class HeldUpError(BrokerError):
    """The broker's answer lies behind messages that wait to be handled; the connection is well."""


class CredentialsRefusedError(BrokerError):
    """The broker refused user name or password (CONNACK 4, 5, 0x86 or 0x87)."""


class SubscriptionRefusedError(BrokerError):
    """The broker refused at least one topic filter (SUBACK 0x80 or above).

    Args:
        filters: the refused topic filters and the reason code of each (MQTT 5, 3.9.3).
    """

    def __init__(
        self, message: str, *, endpoint: str, filters: Mapping[str, int], hint: str | None = None
    ) -> None:
        super().__init__(message, endpoint=endpoint, hint=hint)
        self.filters = dict(filters)


class PublishRefusedError(BrokerError):
    """The broker refused a message (PUBACK or PUBREC 0x80 or above), or would, so that it was not even sent.

    With MQTT 3.1.1 no broker can say so: Mosquitto acknowledges what it drops, others hang up.

    Args:
        reason_code: what the broker said or would have said (MQTT 5, 3.4.2.1); None where there is no code.
    """

    def __init__(
        self, message: str, *, endpoint: str, reason_code: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, endpoint=endpoint, hint=hint)
        self.reason_code = reason_code


class CommandRefusedError(BrokerError):
    """The broker refused an administrative command (``$CONTROL``), did not answer it, or refused its sender."""


class SessionTakenOverError(BrokerError):
    """Another client connected with the same client id (DISCONNECT 0x8E, or one kick after another)."""


class ProtocolRefusedError(BrokerError):
    """Client and broker cannot agree on TLS, MQTT version or client id; trying again would not help."""
