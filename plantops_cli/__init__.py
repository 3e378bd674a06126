"""Hear every MQTT device, know who has gone quiet, and provision the Mosquitto login safely.

The public names live in their own modules and are handed on lazily (PEP 562), so that a program that needs
only topics never pays for an MQTT client.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plantops_cli.config import Settings, load_settings
    from plantops_cli.credentials import KeptPassword, PasswordSource
    from plantops_cli.errors import (
        BrokerError,
        BrokerFileBusyError,
        BrokerFileChangedError,
        BrokerFileError,
        BrokerUnreachableError,
        CommandRefusedError,
        ConfigError,
        ConnectionLostError,
        CredentialsRefusedError,
        ForeignFileError,
        HandlerTimeoutError,
        HeldUpError,
        NoRoomError,
        OutputError,
        PayloadError,
        PlantopsError,
        ProofError,
        ProtocolRefusedError,
        PublishRefusedError,
        ReloadError,
        SessionTakenOverError,
        StateError,
        SubscriptionRefusedError,
        TopicError,
    )
    from plantops_cli.fastapi import mqtt_lifespan
    from plantops_cli.fleet.device import DeviceReport, DeviceState
    from plantops_cli.fleet.monitor import FleetMonitor
    from plantops_cli.fleet.presence import Change, Presence
    from plantops_cli.fleet.rhythm import Rhythm
    from plantops_cli.messages import Decoded, Message, PayloadForm, QoS, check_qos
    from plantops_cli.metrics import Metrics, serving_metrics
    from plantops_cli.stream.batch import Batch, Read
    from plantops_cli.stream.handling.policy import DeadLetter, ErrorPolicy, Retry, dead_letter
    from plantops_cli.stream.handling.registration import Handler, HandlerOptions, PlainHandler, PlainOptions
    from plantops_cli.stream.options import ConnectOptions, MQTTVersion, SubscriberOptions
    from plantops_cli.stream.packets import Packet
    from plantops_cli.stream.session import AtOnce
    from plantops_cli.stream.status import (
        Connected,
        Connecting,
        FellBack,
        Health,
        Lost,
        Outage,
        Paused,
        Resumed,
        Retrying,
        SessionBegun,
        SessionLost,
        State,
        Status,
        StatusListener,
    )
    from plantops_cli.stream.subscriber import MQTTSubscriber
    from plantops_cli.stream.tls import TLSOptions
    from plantops_cli.topics import DeviceTopic, Kind, matches, parse_device_id, parse_topic

_HOMES = {
    "AtOnce": "stream.session",
    "Batch": "stream.batch",
    "BrokerError": "errors",
    "BrokerFileBusyError": "errors",
    "BrokerFileChangedError": "errors",
    "BrokerFileError": "errors",
    "BrokerUnreachableError": "errors",
    "Change": "fleet.presence",
    "CommandRefusedError": "errors",
    "ConfigError": "errors",
    "ConnectOptions": "stream.options",
    "Connected": "stream.status",
    "Connecting": "stream.status",
    "ConnectionLostError": "errors",
    "CredentialsRefusedError": "errors",
    "DeadLetter": "stream.handling.policy",
    "Decoded": "messages",
    "DeviceReport": "fleet.device",
    "DeviceState": "fleet.device",
    "DeviceTopic": "topics",
    "ErrorPolicy": "stream.handling.policy",
    "FellBack": "stream.status",
    "FleetMonitor": "fleet.monitor",
    "ForeignFileError": "errors",
    "Handler": "stream.handling.registration",
    "HandlerOptions": "stream.handling.registration",
    "Health": "stream.status",
    "HeldUpError": "errors",
    "KeptPassword": "credentials",
    "Kind": "topics",
    "Lost": "stream.status",
    "MQTTSubscriber": "stream.subscriber",
    "MQTTVersion": "stream.options",
    "Message": "messages",
    "Metrics": "metrics",
    "NoRoomError": "errors",
    "Outage": "stream.status",
    "OutputError": "errors",
    "Packet": "stream.packets",
    "PasswordSource": "credentials",
    "Paused": "stream.status",
    "HandlerTimeoutError": "errors",
    "PayloadError": "errors",
    "PayloadForm": "messages",
    "PlainHandler": "stream.handling.registration",
    "PlainOptions": "stream.handling.registration",
    "PlantopsError": "errors",
    "Presence": "fleet.presence",
    "ProofError": "errors",
    "ProtocolRefusedError": "errors",
    "PublishRefusedError": "errors",
    "QoS": "messages",
    "Read": "stream.batch",
    "ReloadError": "errors",
    "Resumed": "stream.status",
    "Retry": "stream.handling.policy",
    "Retrying": "stream.status",
    "Rhythm": "fleet.rhythm",
    "SessionBegun": "stream.status",
    "SessionLost": "stream.status",
    "SessionTakenOverError": "errors",
    "Settings": "config",
    "State": "stream.status",
    "StateError": "errors",
    "Status": "stream.status",
    "StatusListener": "stream.status",
    "SubscriberOptions": "stream.options",
    "SubscriptionRefusedError": "errors",
    "TLSOptions": "stream.tls",
    "TopicError": "errors",
    "check_qos": "messages",
    "dead_letter": "stream.handling.policy",
    "load_settings": "config",
    "matches": "topics",
    "mqtt_lifespan": "fastapi",
    "parse_device_id": "topics",
    "parse_topic": "topics",
    "serving_metrics": "metrics",
}

__all__ = [
    "AtOnce",
    "Batch",
    "BrokerError",
    "BrokerFileBusyError",
    "BrokerFileChangedError",
    "BrokerFileError",
    "BrokerUnreachableError",
    "Change",
    "CommandRefusedError",
    "ConfigError",
    "ConnectOptions",
    "Connected",
    "Connecting",
    "ConnectionLostError",
    "CredentialsRefusedError",
    "DeadLetter",
    "Decoded",
    "DeviceReport",
    "DeviceState",
    "DeviceTopic",
    "ErrorPolicy",
    "FellBack",
    "FleetMonitor",
    "ForeignFileError",
    "Handler",
    "HandlerOptions",
    "HandlerTimeoutError",
    "Health",
    "HeldUpError",
    "KeptPassword",
    "Kind",
    "Lost",
    "MQTTSubscriber",
    "MQTTVersion",
    "Message",
    "Metrics",
    "NoRoomError",
    "Outage",
    "OutputError",
    "Packet",
    "PasswordSource",
    "Paused",
    "PayloadError",
    "PayloadForm",
    "PlainHandler",
    "PlainOptions",
    "PlantopsError",
    "Presence",
    "ProofError",
    "ProtocolRefusedError",
    "PublishRefusedError",
    "QoS",
    "Read",
    "ReloadError",
    "Resumed",
    "Retry",
    "Retrying",
    "Rhythm",
    "SessionBegun",
    "SessionLost",
    "SessionTakenOverError",
    "Settings",
    "State",
    "StateError",
    "Status",
    "StatusListener",
    "SubscriberOptions",
    "SubscriptionRefusedError",
    "TLSOptions",
    "TopicError",
    "check_qos",
    "dead_letter",
    "load_settings",
    "matches",
    "mqtt_lifespan",
    "parse_device_id",
    "parse_topic",
    "serving_metrics",
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
