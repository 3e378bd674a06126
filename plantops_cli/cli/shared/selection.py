"""Which messages a command wants: what to subscribe to, and what to leave out of that."""

from collections.abc import Sequence
from dataclasses import dataclass

from plantops_cli.errors import ConfigError, TopicError
from plantops_cli.messages import Message
from plantops_cli.topics import KINDS, Kind, check_filter, check_topic, matches


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Filters to subscribe to, and the messages to keep of what they bring.

    Args:
        filters: topic filters given by the user; none: those of the wanted devices and kinds.
        filter_out: topic filters whose messages are left out.
        devices: ids of the only devices wanted; none: all.
        kind: the only kind wanted; None: both.
        is_retained_wanted: False leaves out retained messages.
        is_live_wanted: False leaves out all others.
    """

    filters: Sequence[str] = ()
    filter_out: Sequence[str] = ()
    devices: Sequence[str] = ()
    kind: Kind | None = None
    is_retained_wanted: bool = True
    is_live_wanted: bool = True

    def __post_init__(self) -> None:
        if not self.is_retained_wanted and not self.is_live_wanted:
            raise ConfigError("--no-retained and --retained-only leave nothing", hint="give one of them")
        for topic_filter in (*self.filters, *self.filter_out):
            check_filter(topic_filter)
        for device_id in self.devices:
            _check_device_id(device_id)

    @property
    def topic_filters(self) -> tuple[str, ...]:
        """What to subscribe to; no narrower than needed, no wider than wanted."""
        if self.filters:
            return tuple(dict.fromkeys(self.filters))
        kinds = (self.kind,) if self.kind else KINDS
        return tuple(
            f"devices/{device}/{kind}" for device in dict.fromkeys(self.devices or ("+",)) for kind in kinds
        )

    def wants(self, message: Message) -> bool:
        """Tell whether a message is one of those asked for."""
        if not (self.is_retained_wanted if message.retain else self.is_live_wanted):
            return False
        if self.devices and message.device_id not in self.devices:
            return False
        if self.kind and message.kind != self.kind:
            return False
        return not any(matches(unwanted, message.topic) for unwanted in self.filter_out)


def _check_device_id(device_id: str) -> None:
    try:
        check_topic(device_id)
    except TopicError as exc:
        raise ConfigError(f"--device: {str(exc).replace('topic', 'device id')}") from exc
    if "/" in device_id:
        raise ConfigError(f"--device {device_id!r}: a device id is one topic level, without '/'")
