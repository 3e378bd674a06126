"""amqtt in this process: the only module that starts it, behind a door of our own.

amqtt can bind no port 0, leaves an MQTT 5 CONNECT without an answer (it reads its properties as a client id and
waits for bytes that never come) and waits for every client when it closes its server. So the connections are ours:
they are let in, checked and ended here, and amqtt is given only MQTT 3.1.1 to talk to.
"""

import asyncio
import contextlib
import io
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker

from plantops_cli.demo.auth import PasswordFileAuth

_LISTENER = "default"
_NOISY_LOGGERS = ("amqtt", "transitions")
_CONNECT_SECONDS = 10.0
_CLOSE_SECONDS = 1.0
_MAX_CONNECT_BYTES = 256 * 1024

_MQTT_3_1_1 = b"\x00\x04MQTT\x04"
_MQTT_5 = b"\x00\x04MQTT\x05"
# CONNACK "unacceptable protocol version": MQTT 3.1.1, 3.2.2.3, and in the form of MQTT 5, 3.2.2.2
_REFUSED_3_1_1 = b"\x20\x02\x00\x01"
_REFUSED_5 = b"\x20\x03\x00\x84\x00"

_log = logging.getLogger("plantops.demo")


@contextlib.asynccontextmanager
async def serve(password_file: Path, *, host: str) -> AsyncIterator[int]:
    """Run amqtt on a free port while the context lasts; yields the port.

    Args:
        password_file: who may log in, in Mosquitto's format.
        host: the address to listen on.

    Raises:
        OSError: no port could be had.
    """
    with _silenced():
        broker = Broker(_config(password_file))
        await broker.start()
        door = _Door(broker)
        try:
            server = await asyncio.start_server(door.let_in, host, 0)
            try:
                yield server.sockets[0].getsockname()[1]
            finally:
                server.close()
                await door.close()
        finally:
            await broker.shutdown()


def _config(password_file: Path) -> dict[str, object]:
    plugin = f"{PasswordFileAuth.__module__}.{PasswordFileAuth.__qualname__}"
    return {
        "listeners": {_LISTENER: {"type": "external"}},
        "plugins": {plugin: {"path": password_file}},
    }


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _Door:
    """The connections to the broker, each with the task that serves it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._guests: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="plantops demo client")
        self._guests[task] = writer
        task.add_done_callback(self._guests.pop)

    async def close(self) -> None:
        """End all connections at once: a client that reads no more would hold up an orderly end."""
        guests = dict(self._guests)
        if not guests:
            return
        for writer in guests.values():
            writer.transport.abort()
        _, late = await asyncio.wait(guests, timeout=_CLOSE_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except Exception:
            # amqtt raises whatever a stranger's bytes provoke; one client must not end the others
            _log.debug("a client of the embedded broker failed", exc_info=True)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_CONNECT_SECONDS):
            connect = await _read_connect(reader)
        refusal = _refusal(connect)
        if refusal is not None:
            writer.write(refusal)
            return
        replayed = _ReplayedReader(connect, reader)
        await self._broker.external_connected(replayed, StreamWriterAdapter(writer), listener_name=_LISTENER)


class _Connect(NamedTuple):
    header: bytes
    body: bytes


class _ReplayedReader(StreamReaderAdapter):
    """A stream of which the first packet has been read already."""

    def __init__(self, connect: _Connect, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._first = io.BytesIO(connect.header + connect.body)

    async def read(self, n: int = -1) -> bytes:
        head = self._first.read(n)
        if len(head) == n:
            return head
        rest: bytes = await super().read(max(n - len(head), -1))
        return head + rest


async def _read_connect(reader: asyncio.StreamReader) -> _Connect:
    header = await reader.readexactly(2)
    while header[-1] & 0x80 and len(header) < 5:
        header += await reader.readexactly(1)
    size = sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(header[1:]))
    if header[0] != 0x10 or size > _MAX_CONNECT_BYTES:
        raise ValueError("the first packet is no CONNECT")
    return _Connect(header, await reader.readexactly(size))


def _refusal(connect: _Connect) -> bytes | None:
    """The CONNACK to a protocol version that amqtt does not speak; None for the one that it does."""
    if connect.body.startswith(_MQTT_3_1_1):
        return None
    return _REFUSED_5 if connect.body.startswith(_MQTT_5) else _REFUSED_3_1_1
