"""Hear every MQTT device, know who has gone quiet, and provision the Mosquitto login safely.

The public names live in their own modules and are handed on lazily (PEP 562), so that a program that needs
only topics never pays for an MQTT client.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plantops_cli.errors import (
        BrokerError,
        BrokerFileError,
        BrokerUnreachableError,
        ConfigError,
        ConnectionLostError,
        CredentialsRefusedError,
        HeldUpError,
        PlantopsError,
        ProofError,
        ProtocolRefusedError,
        ReloadError,
        SessionTakenOverError,
        StateError,
        SubscriptionRefusedError,
        TopicError,
    )
    from plantops_cli.fleet.presence import Change, DeviceReport, DeviceState, Presence
    from plantops_cli.messages import Message
    from plantops_cli.stream.status import Health, Outage
    from plantops_cli.stream.subscriber import MQTTSubscriber
    from plantops_cli.stream.tls import TLSOptions
    from plantops_cli.topics import DeviceTopic, matches, parse_device_id, parse_topic

_HOMES = {
    "BrokerError": "errors",
    "BrokerFileError": "errors",
    "BrokerUnreachableError": "errors",
    "Change": "fleet.presence",
    "ConfigError": "errors",
    "ConnectionLostError": "errors",
    "CredentialsRefusedError": "errors",
    "DeviceReport": "fleet.presence",
    "DeviceState": "fleet.presence",
    "DeviceTopic": "topics",
    "Health": "stream.status",
    "HeldUpError": "errors",
    "MQTTSubscriber": "stream.subscriber",
    "Message": "messages",
    "Outage": "stream.status",
    "PlantopsError": "errors",
    "Presence": "fleet.presence",
    "ProofError": "errors",
    "ProtocolRefusedError": "errors",
    "ReloadError": "errors",
    "SessionTakenOverError": "errors",
    "StateError": "errors",
    "SubscriptionRefusedError": "errors",
    "TLSOptions": "stream.tls",
    "TopicError": "errors",
    "matches": "topics",
    "parse_device_id": "topics",
    "parse_topic": "topics",
}

__all__ = [
    "BrokerError",
    "BrokerFileError",
    "BrokerUnreachableError",
    "Change",
    "ConfigError",
    "ConnectionLostError",
    "CredentialsRefusedError",
    "DeviceReport",
    "DeviceState",
    "DeviceTopic",
    "Health",
    "HeldUpError",
    "MQTTSubscriber",
    "Message",
    "Outage",
    "PlantopsError",
    "Presence",
    "ProofError",
    "ProtocolRefusedError",
    "ReloadError",
    "SessionTakenOverError",
    "StateError",
    "SubscriptionRefusedError",
    "TLSOptions",
    "TopicError",
    "matches",
    "parse_device_id",
    "parse_topic",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("plantops-cli")
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
