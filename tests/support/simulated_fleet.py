"""A fleet that publishes at a steady pace, on a thread of its own."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.plantops import PATIENCE_SECONDS

Plan = Callable[[int], list[tuple[str, bytes]]]
"""What to publish at each beat: topics and payloads."""


@contextmanager
def publishing(broker: Mosquitto, plan: Plan, *, interval: float) -> Iterator[None]:
    """Publish as planned, from now until the context ends.

    Args:
        broker: a broker with a plain listener.
        plan: told the number of the beat, from 0.
        interval: seconds from beat to beat.
    """
    ended = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(USERNAME, PASSWORD)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()

    def beat() -> None:
        began = time.monotonic()
        number = 0
        while not ended.wait(max(0.0, began + number * interval - time.monotonic())):
            for topic, payload in plan(number):
                client.publish(topic, payload, qos=0)
            number += 1

    thread = threading.Thread(target=beat, name="simulated-fleet", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        client.disconnect()
        client.loop_stop()


def wait_for_clients(broker: Mosquitto, number: int) -> None:
    """Wait until so many clients have connected since the broker was started first."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (broker.folder / "log").read_text().count("New client connected") < number:
        assert time.monotonic() < deadline
        time.sleep(0.05)
