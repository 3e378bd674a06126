"""Small helps of the tests of the stream: what is always closed, waiting, and publishing."""

import asyncio
import resource
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from plantops_cli.errors import BrokerError
from plantops_cli.messages import Message
from plantops_cli.stream.inbox import MAX_PENDING_BYTES
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.session import Session, open_session
from plantops_cli.stream.status import Status
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.scripted_broker import ScriptedBroker, publish

SECRET = "hunter2-is-not-to-be-seen"
WAIT_SECONDS = 30.0


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


@asynccontextmanager
async def session_on(
    broker: ScriptedBroker,
    *,
    version: str = "5",
    seconds: float = WAIT_SECONDS,
    said: list[Status] | None = None,
    max_pending_bytes: int = MAX_PENDING_BYTES,
    keepalive_seconds: int = 15,
) -> AsyncIterator[Session]:
    """A session in front of a scripted broker, closed in the end."""
    options = ConnectOptions(
        host="127.0.0.1",
        port=broker.port,
        username="alice",
        password=SECRET,
        mqtt_version=MQTTVersion(version),
        timeout_seconds=seconds,
        max_pending_bytes=max_pending_bytes,
        keepalive_seconds=keepalive_seconds,
    )
    session = await open_session(options, (said if said is not None else []).append)
    try:
        yield session
    finally:
        await session.close()


async def refusal(broker: ScriptedBroker, *, version: str = "5", seconds: float = WAIT_SECONDS) -> BrokerError:
    """Why no session comes about."""
    with pytest.raises(BrokerError) as caught:
        async with session_on(broker, version=version, seconds=seconds):
            pass
    return caught.value


async def collect(session: Session, received: list[Message]) -> None:
    """Read until the end, be it an error."""
    async for batch in session.batches():
        received += batch


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
