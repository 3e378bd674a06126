"""Handlers that take their time, on a real Mosquitto: the connection lives, and its answers come through."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from plantops_cli.errors import HeldUpError
from plantops_cli.messages import Message
from plantops_cli.stream.subscriber import MQTTSubscriber
from plantops_cli.stream.tls import TLSOptions
from tests.stream.test_bulk import TLS, is_listened_on
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto, free_port
from tests.support.certificates import Certificates
from tests.support.plantops import run
from tests.support.recording import until
from tests.support.subscribing import WAIT_SECONDS, eventually, is_left_unread, publish_all

KEEPALIVE_SECONDS = 2
STALL_SECONDS = 3.2 * KEEPALIVE_SECONDS
FEW_BYTES = 512 * 1024
LATE_SECONDS = 0.25
KINDS = ("tcp", "tls", "ws", "wss", "unix")


@pytest.fixture
def broker(tmp_path: Path, certificates: Certificates) -> Iterator[Mosquitto]:
    """A broker that keeps any number of messages, and is reached in each way."""
    tls = TLS.format(ca=certificates.ca, cert=certificates.server_cert, key=certificates.server_key)
    ports = {kind: free_port() for kind in ("tls", "ws", "wss")}
    (tmp_path / "ports").write_text(" ".join(map(str, ports.values())))
    extra = [
        "max_queued_messages 0",
        "max_queued_bytes 0",
        f"listener {ports['tls']} 127.0.0.1\n{tls}",
        f"listener {ports['ws']} 127.0.0.1\nprotocol websockets",
        f"listener {ports['wss']} 127.0.0.1\nprotocol websockets\n{tls}",
        f"listener 0 {tmp_path / 's'}",
    ]
    broker = Mosquitto(tmp_path, extra="\n".join(extra))
    broker.start()
    assert until(lambda: all(map(is_listened_on, ports.values())), seconds=WAIT_SECONDS)
    yield broker
    broker.stop()


@asynccontextmanager
async def connected(broker: Mosquitto, kind: str, ca: Path, **options: Any) -> AsyncIterator[MQTTSubscriber]:
    ports = broker.folder / "ports"
    tls, ws, wss = ports.read_text().split() if ports.exists() else 3 * [""]
    subscriber = MQTTSubscriber(
        "127.0.0.1",
        int({"tls": tls, "ws": ws, "wss": wss}.get(kind, broker.port)),
        USERNAME,
        PASSWORD,
        tls=TLSOptions(cafile=ca) if kind in ("tls", "wss") else None,
        websocket_path="/mqtt" if kind in ("ws", "wss") else None,
        unix_socket=str(broker.folder / "s") if kind == "unix" else None,
        **options,
    )
    try:
        yield subscriber
    finally:
        await subscriber.disconnect()


@asynccontextmanager
async def never_late() -> AsyncIterator[None]:
    """Hold that the event loop gets round all the time, as its own thread counts it: others compute here too."""
    late: list[float] = [0.0]

    async def look() -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.005)
            late.append(time.thread_time() - began)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
    assert max(late) < LATE_SECONDS


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (1_500, {"keepalive_seconds": KEEPALIVE_SECONDS}),
        pytest.param(5_000, {}, marks=[pytest.mark.long, pytest.mark.timeout(240)]),
    ],
    ids=["short", "defaults"],
)
async def test_a_burst_that_outlasts_the_keep_alive_is_handled_once_each_without_an_outage(
    own_mosquitto: Mosquitto, tmp_path: Path, count: int, options: dict[str, Any]
) -> None:
    broker, handled = own_mosquitto, list[int]()  # a Mosquitto at its defaults

    async def handle(message: Message) -> None:
        await asyncio.sleep(0.01)
        handled.append(int(message.text))

    async with connected(broker, "tcp", tmp_path, **options) as mqtt, never_late():
        mqtt.register_handler("a", handle)
        await mqtt.connect()
        await mqtt.start()
        await publish_all(broker, "a", map(str, range(count)))
        assert await asyncio.to_thread(until, lambda: len(handled) >= count, seconds=0.03 * count)
        await asyncio.sleep(0.1)
        assert handled == list(range(count))
        assert mqtt.health.outage_count == 0


async def test_a_handler_that_never_waits_lets_everybody_else_go_on_between_batches(
    broker: Mosquitto, tmp_path: Path
) -> None:
    count, go_on, handled = 8_000, asyncio.Event(), 0

    async def handle(message: Message) -> None:
        nonlocal handled
        await go_on.wait()
        until = time.thread_time() + 0.000_05
        while time.thread_time() < until:
            pass
        handled += 1

    async with connected(broker, "tcp", tmp_path, qos=0) as mqtt:
        mqtt.register_handler("a", handle)
        await mqtt.connect()
        await mqtt.start()
        await publish_all(broker, "a", ["x"] * count)
        await eventually(lambda: mqtt._lifeline.session and mqtt._lifeline.session.held > count - 1_000)
        async with never_late():
            go_on.set()
            await eventually(lambda: handled == count)


@pytest.mark.timeout(180)
async def test_a_handler_that_replies_at_qos_1_waits_in_vain_not_once_in_a_burst(
    own_mosquitto: Mosquitto, tmp_path: Path
) -> None:
    broker, count, replies = own_mosquitto, 3_000, 0

    async def reply(message: Message) -> None:
        nonlocal replies
        assert mqtt.client is not None
        await mqtt.client.publish("replies", message.payload, qos=1)
        replies += 1

    async with connected(broker, "tcp", tmp_path) as mqtt:
        mqtt.register_handler("a", reply)
        await mqtt.connect()
        await mqtt.start()
        await publish_all(broker, "a", map(str, range(count)))
        assert await asyncio.to_thread(until, lambda: replies == count, seconds=60)
        assert (mqtt.health.handler_errors, mqtt.health.outage_count) == (0, 0)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_handler_that_stalls_for_three_keep_alives_costs_neither_connection_nor_memory_nor_a_message(
    broker: Mosquitto, certificates: Certificates, qos: int
) -> None:
    # more than may wait, so that at QoS 0 the socket is left unread
    payloads = [f"{number:0250}" for number in range(4_000)]
    heard: dict[str, list[str]] = {kind: [] for kind in KINDS}

    async def stall(kind: str) -> None:
        go_on = asyncio.Event()

        async def handle(message: Message) -> None:
            await go_on.wait()
            heard[kind].append(message.text)

        options: dict[str, Any] = {"keepalive_seconds": KEEPALIVE_SECONDS, "max_pending_bytes": FEW_BYTES}
        async with connected(broker, kind, certificates.ca, **options, qos=qos) as mqtt:
            mqtt.register_handler("a", handle)
            await mqtt.connect()
            await mqtt.start()
            ready.release()
            await asyncio.sleep(STALL_SECONDS)
            session = mqtt._lifeline.session
            assert session is not None
            if not qos and kind not in ("ws", "wss"):  # over which Mosquitto sends slowly
                assert is_left_unread(session)
            assert FEW_BYTES - session.inbox._free_bytes < 1.5 * FEW_BYTES
            go_on.set()
            await eventually(lambda: len(heard[kind]) >= len(payloads))
            assert heard[kind] == payloads
            assert mqtt.health.outages == ()

    ready = asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as group:
        for kind in KINDS:
            group.create_task(stall(kind))
        for _ in KINDS:
            await ready.acquire()
        await publish_all(broker, "a", payloads, qos=max(qos, 1))


async def test_at_the_bound_an_answer_is_refused_at_once_and_comes_again_when_messages_are_handled(
    broker: Mosquitto, tmp_path: Path
) -> None:
    go_on, errors, seconds = asyncio.Event(), list[Exception](), list[float]()

    async def ask() -> None:
        began = time.monotonic()
        assert mqtt.client is not None
        for asking in (
            mqtt.client.publish("replies", b"", qos=1),
            mqtt.client.subscribe("b"),
            mqtt.client.unsubscribe("b"),
            mqtt.subscribe("c"),
        ):
            try:
                await asking
            except HeldUpError as exc:
                errors.append(exc)
        seconds.append(time.monotonic() - began)

    async def handle(message: Message) -> None:
        if not errors:
            await eventually(lambda: mqtt._lifeline.session and is_left_unread(mqtt._lifeline.session))
            await ask()
            await go_on.wait()

    async with connected(broker, "tcp", tmp_path, max_pending_bytes=FEW_BYTES, qos=0) as mqtt:
        mqtt.register_handler("a", handle)
        await mqtt.connect()
        await mqtt.start()
        await publish_all(broker, "a", ["x" * 250] * 4_000)
        await eventually(lambda: len(errors) == 4)
        await ask()  # in a task that holds nothing up
        assert len(errors) == 8
        assert max(seconds) < 1
        assert all("behind messages that wait to be handled" in str(exc) for exc in errors)
        assert isinstance(errors[0], aiomqtt.MqttError)
        assert mqtt.client is not None
        await mqtt.client.publish("replies", b"")  # QoS 0 has no answer
        go_on.set()
        await eventually(lambda: mqtt._lifeline.session and not is_left_unread(mqtt._lifeline.session))
        await mqtt.client.publish("replies", b"", qos=1)
        assert mqtt.health.outage_count == 0


async def test_a_handler_may_reply_while_the_subscriber_is_being_disconnected(
    broker: Mosquitto, tmp_path: Path
) -> None:
    replied: list[str] = []
    began = asyncio.Event()

    async def reply(message: Message) -> None:
        began.set()
        await asyncio.sleep(0.2)
        assert mqtt.client is not None
        await mqtt.client.publish("replies", message.payload, qos=1)
        replied.append(message.text)

    async with connected(broker, "tcp", tmp_path) as mqtt:
        mqtt.register_handler("a", reply)
        await mqtt.connect()
        await mqtt.start()
        await publish_all(broker, "a", ["1"])
        await began.wait()
        await mqtt.disconnect()
        assert replied == ["1"]


async def test_a_handler_may_reply_in_a_disconnect_at_the_bound_and_nothing_spins(
    broker: Mosquitto, tmp_path: Path
) -> None:
    go_on, seconds = asyncio.Event(), list[float]()

    async def reply(message: Message) -> None:
        if not seconds:
            await go_on.wait()
            assert mqtt.client is not None
            await mqtt.client.publish("replies", message.payload, qos=1)
            seconds.append(time.process_time() - began)

    async with connected(broker, "tcp", tmp_path, max_pending_bytes=FEW_BYTES, qos=0) as mqtt:
        mqtt.register_handler("a", reply)
        await mqtt.connect()
        await mqtt.start()
        await publish_all(broker, "a", ["x" * 250] * 4_000)
        await eventually(lambda: mqtt._lifeline.session and is_left_unread(mqtt._lifeline.session))
        began = time.process_time()
        disconnecting = asyncio.create_task(mqtt.disconnect())
        await asyncio.sleep(1)
        go_on.set()
        await disconnecting
    assert seconds
    assert seconds[0] < 0.5


# Retained messages, which come before the answer to SUBSCRIBE


RETAINED = 1_500


@pytest.fixture
def retaining(broker: Mosquitto) -> Mosquitto:
    """A broker with many retained messages."""

    async def publish() -> None:
        async with aiomqtt.Client("127.0.0.1", broker.port, username=USERNAME, password=PASSWORD) as client:
            for number in range(RETAINED):
                await client.publish(f"devices/{number}/telemetry", b"x" * 1_000, qos=0, retain=True)
            await client.publish("done", b"", qos=1)

    asyncio.run(publish())
    return broker


def test_retained_messages_before_the_suback_hide_nothing(retaining: Mosquitto, tmp_path: Path) -> None:
    async def hear() -> None:
        heard: set[str] = set()
        async with connected(retaining, "tcp", tmp_path, qos=0) as mqtt:
            mqtt.register_handler("devices/+/telemetry", lambda message: heard.add(message.topic))
            await mqtt.connect()
            await mqtt.start()
            await eventually(lambda: len(heard) == RETAINED)
            assert mqtt.health.outage_count == 0

    asyncio.run(hear())


def test_doctor_is_answered_behind_retained_messages(retaining: Mosquitto) -> None:
    done = run("doctor", "-o", "json", env=retaining.environment)
    steps = json.loads(done.stdout)["steps"]
    assert [step["status"] for step in steps if step["name"] == "subscribe"] == ["ok", "ok"]
    assert "(retained, from before, 1000 bytes)" in steps[-1]["details"][0]
    assert done.code == 0


def test_listen_is_answered_behind_retained_messages(retaining: Mosquitto) -> None:
    done = run("listen", "-C", str(RETAINED), "-o", "jsonl", env=retaining.environment)
    assert len({json.loads(line)["device_id"] for line in done.lines}) == RETAINED
    assert done.code == 0
    assert "lost" not in done.stderr


def test_more_retained_messages_than_may_wait_come_before_the_suback(retaining: Mosquitto, tmp_path: Path) -> None:
    async def hear() -> None:
        heard: set[str] = set()
        async with connected(retaining, "tcp", tmp_path, qos=0, max_pending_bytes=FEW_BYTES) as mqtt:
            mqtt.register_handler("devices/+/telemetry", lambda message: heard.add(message.topic))
            await mqtt.start()
            await eventually(lambda: len(heard) == RETAINED)
            assert await mqtt.subscribe("late") == 0
            assert mqtt.health.outage_count == 0

    asyncio.run(hear())
