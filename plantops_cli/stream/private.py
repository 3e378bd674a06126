"""The private names of aiomqtt and paho that a client leans on, and the check that they are still there.

To take messages out in front of both, and to give a connection up at any moment, needs more than they make public.
Another release may move any of these: then nothing is begun at all, with one clear line.
"""

from collections.abc import Iterable

from plantops_cli.errors import ConfigError

AIOMQTT_METHODS = (
    "_client_connect",
    "_on_connect",
    "_on_disconnect",
    "_on_publish",
    "_on_socket_close",
    "_on_socket_open",
    "_on_socket_register_write",
    "_on_socket_unregister_write",
    "_on_subscribe",
)
"""Methods of ``aiomqtt.Client`` that are overridden or called although they are not public."""

PAHO_METHODS = (
    "_create_socket",
    "_do_on_publish",
    "_handle_pingresp",
    "_handle_pubackcomp",
    "_handle_pubrec",
    "_send_pingreq",
    "_sock_close",
)
"""Methods of ``paho.mqtt.client.Client`` that are replaced or called although they are not public."""

AIOMQTT_ATTRIBUTES = ("_client", "_connected", "_disconnected", "_hostname", "_loop", "_misc_task")
"""Attributes of an ``aiomqtt.Client``; they stand on instances only."""

PAHO_ATTRIBUTES = (
    "_in_packet",
    "_keepalive",
    "_last_bytes_received",
    "_last_mid",
    "_max_inflight_messages",
    "_out_messages",
    "_ping_t",
    "_sock",
)
"""Attributes of a ``paho.mqtt.client.Client``; they stand on instances only."""


def check_names(thing: object, names: Iterable[str]) -> None:
    """Make sure that a class or an instance has these names.

    Args:
        thing: a class or an instance of aiomqtt or paho.
        names: what it is to have.

    Raises:
        ConfigError: the installed release has moved one of them.
    """
    missing = [name for name in names if not hasattr(thing, name)]
    if missing:
        kind = thing if isinstance(thing, type) else type(thing)
        raise ConfigError(
            f"{kind.__module__}.{kind.__qualname__} of the installed release has no {', '.join(missing)}",
            hint="install the releases that plantops-cli was tested with: aiomqtt 2.5.1 and paho-mqtt 2.2.0",
        )
