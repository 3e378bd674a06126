"""Thousands of messages over TLS and WebSocket: with a reader that pauses, and with a clogged way back."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from plantops_cli.messages import Message
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.session import Session, open_session
from plantops_cli.stream.tls import TLSOptions
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto, free_port
from tests.support.certificates import Certificates
from tests.support.recording import until
from tests.support.subscribing import WAIT_SECONDS, eventually, is_left_unread, publish_all, take

MANY = 5_000
BULK_SECONDS = 30.0
TLS = "cafile {ca}\ncertfile {cert}\nkeyfile {key}"


@dataclass
class Ports:
    """A Mosquitto with one port for each kind of connection."""

    broker: Mosquitto
    tls: TLSOptions
    ports: dict[str, int]

    def options(self, kind: str) -> dict[str, Any]:
        return {
            "port": self.ports[kind],
            "tls": self.tls if kind in ("tls", "wss") else None,
            "websocket_path": "/mqtt" if kind in ("ws", "wss") else None,
        }


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Ports]:
    tls = TLS.format(ca=certificates.ca, cert=certificates.server_cert, key=certificates.server_key)
    ports = {kind: free_port() for kind in ("tls", "ws", "wss")}
    extra = [
        "max_queued_messages 0",
        f"listener {ports['tls']} 127.0.0.1\n{tls}",
        f"listener {ports['ws']} 127.0.0.1\nprotocol websockets",
        f"listener {ports['wss']} 127.0.0.1\nprotocol websockets\n{tls}",
    ]
    broker = Mosquitto(tmp_path_factory.mktemp("everywhere"), extra="\n".join(extra))
    broker.start()
    # libwebsockets listens later
    assert until(lambda: all(map(is_listened_on, ports.values())), seconds=WAIT_SECONDS)
    yield Ports(broker, TLSOptions(cafile=certificates.ca), ports)
    broker.stop()


def is_listened_on(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def session_to(port: int, **options: Any) -> AsyncIterator[Session]:
    login = {"username": USERNAME, "password": PASSWORD, "mqtt_version": MQTTVersion.V5}
    session = await open_session(
        ConnectOptions(**{"host": "127.0.0.1", "port": port, **login, **options}), lambda status: None
    )
    try:
        yield session
    finally:
        await session.close()


KINDS = pytest.mark.parametrize("kind", ["tls", "ws", "wss"])


def payload(number: int) -> str:
    return f"{number:04}" + "x" * 300


@KINDS
async def test_a_bulk_comes_whole_and_in_order_though_its_reader_pauses(everywhere: Ports, kind: str) -> None:
    options = everywhere.options(kind) | {"max_pending_bytes": 256 * 1024}
    async with session_to(**options) as session, aclosing(session.batches()) as batches:
        await session.subscribe({"bulk": 0})
        publishing = asyncio.create_task(publish_all(everywhere.broker, "bulk", map(payload, range(MANY))))
        came: list[str] = []
        async with asyncio.timeout(BULK_SECONDS):
            async for batch in batches:
                if len(came) < MANY // 4 <= len(came) + len(batch):
                    await eventually(lambda: is_left_unread(session))
                    held = session.held
                    await asyncio.sleep(0.1)  # a socket that were still read would bring more
                    assert session.held == held
                came += [message.text for message in batch]
                if len(came) >= MANY:
                    break
        await publishing
        assert came == [payload(number) for number in range(MANY)]
        await asyncio.sleep(0.1)
        assert session.held == 0


@KINDS
async def test_what_a_layer_holds_decrypted_is_fetched_though_the_socket_is_silent(
    everywhere: Ports, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plantops_cli.stream.tap.READ_BYTES", 1_000)  # a record holds more
    async with session_to(**everywhere.options(kind)) as session:
        await session.subscribe({"bulk": 1})
        for size in (1_500, 10_000, 40_000):
            await publish_all(everywhere.broker, "bulk", ["x" * size])
            assert [len(message.payload) for message in await take(session, 1)] == [size]


class Relay:
    """Stands before a broker, and can cease to carry what the client sends."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.is_open.set()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def before(self, port: int) -> AsyncIterator[int]:
        """Stand before a port, and yield the one to connect to instead."""
        self._port = port
        server = await asyncio.start_server(self._accept, "127.0.0.1")
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._carry(reader, writer)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self._port)
        back = asyncio.create_task(_copy(broker_reader, writer))
        try:
            while data := await reader.read(1 << 16):
                await self.is_open.wait()
                broker_writer.write(data)
                await broker_writer.drain()
        finally:
            broker_writer.close()
            await asyncio.gather(back, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@KINDS
async def test_acknowledgements_outlast_a_publish_that_is_stuck(everywhere: Ports, kind: str) -> None:
    relay = Relay()
    options = everywhere.options(kind)
    numbers = [str(number) for number in range(1_000)]
    large = bytes(range(250)) * 40_000
    async with (
        relay.before(options.pop("port")) as port,
        session_to(port, **options) as session,
        session_to(everywhere.broker.port) as other,  # over a WebSocket Mosquitto sends 40 kB a second
        aclosing(session.batches()) as batches,
    ):
        await session.subscribe({"small": 1})
        await other.subscribe({"large": 1})
        assert session.client is not None
        relay.is_open.clear()
        sending = asyncio.create_task(session.client.publish("large", large, timeout=BULK_SECONDS))
        await asyncio.sleep(0)
        await publish_all(everywhere.broker, "small", numbers)
        came: list[Message] = []
        async with asyncio.timeout(BULK_SECONDS):
            async for batch in batches:
                came += batch
                if not relay.is_open.is_set():  # acknowledgements pile up meanwhile
                    asyncio.get_running_loop().call_later(0.2, relay.is_open.set)
                if len(came) == len(numbers):
                    break
        assert [message.payload for message in await take(other, 1)] == [large]
        await sending
    assert [(message.text, message.dup) for message in came] == [(number, False) for number in numbers]
