"""The panel Stream: what to subscribe to, how much of it, and for how long."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer

from plantops_cli.cli.shared.flags.parsed import DURATION, MANY
from plantops_cli.topics import Kind

_option = partial(typer.Option, rich_help_panel="Stream")


Qos = Annotated[int, _option("-q", "--qos", help="Highest QoS to receive with: 0, 1, 2.")]
Count = Annotated[int | None, _option("-C", "--count", metavar="N", help="Stop after N messages shown.")]
Timeout = Annotated[
    float | None, _option("-W", "--timeout", metavar="SECONDS", help="Stop after so many seconds, 0.5 too.")
]
FilterOut = Annotated[
    tuple[str, ...],
    MANY,
    _option("-T", "--filter-out", metavar="FILTER", help="Leave out topics that match; may be given again."),
]
Devices = Annotated[
    tuple[str, ...], MANY, _option("--device", metavar="ID", help="Only this device; may be given again.")
]
KindOnly = Annotated[Kind | None, _option("--kind", help="Only this kind of message.")]
NoRetained = Annotated[bool, _option("-R", "--no-retained", help="Leave out retained messages.")]
RetainedOnly = Annotated[bool, _option("--retained-only", help="Only retained messages.")]
Durable = Annotated[
    str | None,
    _option(
        "--durable",
        metavar="NAME",
        help="Let the broker keep what is published at QoS 1 while this listener is away; one NAME each. "
        "What a pipe has taken counts as written, read or not; --to FILE keeps it.",
    ),
]
SessionExpiry = Annotated[
    int | None,
    _option(
        "--session-expiry",
        metavar="SECONDS",
        help="With --durable: how long the broker keeps it; a day if not given.",
    ),
]
Group = Annotated[
    str | None,
    _option(
        "--group",
        metavar="NAME",
        help="Share the stream with all listeners of this group: each message goes to one of them.",
    ),
]
GroupAnyway = Annotated[
    bool,
    _option(
        "--group-anyway",
        help="Share it even where the broker is not known to: on MQTT 3.1.1, or when it says that it does not.",
    ),
]
MaxPacketSize = Annotated[
    int,
    _option(
        "--max-packet-size", metavar="BYTES", help="Longest packet to take; a longer one ends the connection."
    ),
]
WaitForBroker = Annotated[
    bool, _option("--wait-for-broker", help="Keep trying if the first connection fails too.")
]
Filters = Annotated[
    tuple[str, ...],
    MANY,
    typer.Argument(metavar="FILTER", help="Topic filters. (devices/+/telemetry and devices/+/heartbeat)"),
]
WaitForMessage = Annotated[
    float, DURATION, _option("--wait", metavar="TIME", help="How long to wait for a message.")
]
CanaryMessage = Annotated[
    bool,
    _option(
        "--canary",
        help="Publish a heartbeat of a device plantops-canary-... and wait for it: proves the right to read.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFlags:
    """What a broker is asked to keep for a listener, and to spare it; None: not given."""

    durable: Durable = None
    session_expiry: SessionExpiry = None
    group: Group = None
    is_group_forced: GroupAnyway = False
    max_packet_size: MaxPacketSize = 16_777_216

    @property
    def keywords(self) -> dict[str, Any]:
        """What ``MQTTSubscriber.from_settings`` takes of them."""
        return {
            "durable": self.durable,
            "session_expiry_seconds": self.session_expiry,
            "group": self.group,
            "group_anyway": self.is_group_forced,
            "max_packet_bytes": self.max_packet_size,
        }
