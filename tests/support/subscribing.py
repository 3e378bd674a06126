"""Small helps of the tests of the stream: a subscriber that is always closed, waiting, and publishing."""

import asyncio
import resource
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from plantops_cli.messages import Message
from plantops_cli.stream.session import Session
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.scripted_broker import ScriptedBroker, publish

SECRET = "hunter2-is-not-to-be-seen"
WAIT_SECONDS = 15.0


@asynccontextmanager
async def subscribing(broker: Mosquitto | ScriptedBroker, **options: Any) -> AsyncIterator[MQTTSubscriber]:
    """A subscriber for a broker, disconnected in the end."""
    login = (USERNAME, PASSWORD) if isinstance(broker, Mosquitto) else ("alice", SECRET)
    subscriber = MQTTSubscriber("127.0.0.1", broker.port, *login, **options)
    try:
        yield subscriber
    finally:
        await subscriber.disconnect()


class Recorder:
    """A handler that remembers the topics it was called with."""

    def __init__(self) -> None:
        self.topics: list[str] = []

    def __call__(self, message: Message) -> None:
        self.topics.append(message.topic)


def one_of_each_kind(device_id: str) -> bytes:
    """A telemetry and a heartbeat of a device, as packets."""
    return b"".join(publish(f"devices/{device_id}/{kind}".encode()) for kind in ("telemetry", "heartbeat"))


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def is_left_unread(session: Session) -> bool:
    """Tell whether the socket is left unread, because so much waits."""
    return session.client is not None and session.client.reading.is_paused


async def take(subscriber: MQTTSubscriber | Session, count: int) -> list[Message]:
    """Read so many messages from ``batches``."""
    taken: list[Message] = []
    async with asyncio.timeout(WAIT_SECONDS), aclosing(subscriber.batches()) as batches:
        async for batch in batches:
            taken += batch
            if len(taken) >= count:
                break
    return taken


async def publish_all(broker: Mosquitto, topic: str, payloads: Iterable[str], *, qos: int = 1) -> None:
    """Publish and wait for each PUBACK, in a thread."""
    await asyncio.to_thread(_publish_all, broker, topic, list(payloads), qos=qos)


def _publish_all(broker: Mosquitto, topic: str, payloads: list[str], *, qos: int) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(USERNAME, PASSWORD)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    sent = [client.publish(topic, payload, qos) for payload in payloads]
    for info in sent:
        info.wait_for_publish(WAIT_SECONDS)
    assert all(info.is_published() for info in sent)
    client.disconnect()
    client.loop_stop()


def open_files() -> int:
    """How many file descriptors this process has open."""
    folder = Path("/proc/self/fd")
    return len(list((folder if folder.exists() else Path("/dev/fd")).iterdir()))


@contextmanager
def no_room() -> Iterator[None]:
    """No more files can be opened while the context lasts."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
