"""A publisher for the tests that waits for each PUBACK."""

from paho.mqtt import publish as paho_publish
from paho.mqtt.enums import MQTTProtocolVersion

from tests.support.brokers import PASSWORD, USERNAME, Mosquitto


def publish(broker: Mosquitto, topic: str, *payloads: bytes, qos: int = 1, retain: bool = False) -> None:
    """Publish payloads one after the other; each is acknowledged before the next one goes out.

    Args:
        broker: a broker with a plain listener.
        topic: the topic name of all.
        payloads: one for each message.
        qos: the QoS of all.
        retain: whether the broker is to keep the last one.
    """
    paho_publish.multiple(
        [(topic, payload, qos, retain) for payload in payloads],
        hostname="127.0.0.1",
        port=broker.port,
        auth={"username": USERNAME, "password": PASSWORD},
        protocol=MQTTProtocolVersion.MQTTv5,
    )
