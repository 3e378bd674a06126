"""What is said before a CONNACK, and told at once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from plantops_cli.errors import BrokerUnreachableError
from plantops_cli.stream.greeting import Greeting, NotMQTTError
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.session import open_session
from tests.support.rfc6455 import accepting, server_frame
from tests.support.scripted_broker import connack
from tests.support.subscribing import WAIT_SECONDS

BANNERS = [
    b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    b"220 mail.example ESMTP Postfix\r\n",
    b"-ERR unknown command\r\n",
    b"AMQP\x00\x00\x09\x01",
    b"\x15\x03\x01\x00\x02\x02\x46",
    b"\x30\x04\x00\x01a1",
    b"\x20\x00",
    b" Welcome to the printer\r\n",
]


def look_at_each_byte_of(data: bytes) -> Greeting:
    greeting = Greeting()
    for byte in data:
        greeting.look_at(bytes((byte,)))
    return greeting


@pytest.mark.parametrize("code", [0, 0x84, 0x87])
@pytest.mark.parametrize("version", [4, 5])
def test_a_connack_is_one_however_it_is_cut(version: int, code: int) -> None:
    assert look_at_each_byte_of(connack(code, version=version)).is_over


def test_a_long_connack_and_a_disconnect_are_answers_too() -> None:
    for answer in (b"\x20\x80\x01\x00\x00", b"\x20\x7f\x01\x00", b"\xe0\x02\x8b\x00"):
        Greeting().look_at(answer)


@pytest.mark.parametrize("banner", BANNERS)
def test_what_is_no_answer_is_known_by_its_first_bytes(banner: bytes) -> None:
    with pytest.raises(NotMQTTError) as caught:
        look_at_each_byte_of(banner)
    assert banner.startswith(caught.value.said)
    assert len(caught.value.said) <= 3


@contextlib.asynccontextmanager
async def saying(banner: bytes, *, is_websocket: bool = False) -> AsyncIterator[ConnectOptions]:
    """A server that says one thing, and then waits."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if is_websocket:
            writer.write(accepting(await reader.readuntil(b"\r\n\r\n")) + server_frame(banner))
        else:
            writer.write(banner)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    async with server:
        yield ConnectOptions(
            host="127.0.0.1",
            port=server.sockets[0].getsockname()[1],
            websocket_path="/mqtt" if is_websocket else None,
            timeout_seconds=WAIT_SECONDS * 2,
        )


@pytest.mark.parametrize(
    ("banner", "said", "cure"),
    [
        (BANNERS[0], "but HTTP", "websocket_path=PATH"),
        (BANNERS[1], "but SSH", "the port of an MQTT broker"),
        (BANNERS[2], "but SMTP or FTP", "the port of an MQTT broker"),
        (BANNERS[5], "but TLS", "tls=TLSOptions()"),
        (b"\x1b[2J" + b"x" * 200, "for it begins with the byte 0x1b", "the port of an MQTT broker"),
    ],
)
async def test_who_speaks_something_else_is_told_at_once(banner: bytes, said: str, cure: str) -> None:
    async with saying(banner) as options, asyncio.timeout(WAIT_SECONDS):
        with pytest.raises(BrokerUnreachableError) as caught:
            await open_session(options)
    assert f"127.0.0.1:{options.port}: the other side does not speak MQTT, {said}" == str(caught.value)
    assert cure in (caught.value.hint or "")


async def test_and_within_a_websocket() -> None:
    async with saying(b"hello, I am a chat", is_websocket=True) as options, asyncio.timeout(WAIT_SECONDS):
        with pytest.raises(BrokerUnreachableError, match="does not speak MQTT, for it begins with the byte 0x68"):
            await open_session(options)


async def test_an_answer_that_makes_no_sense_is_told_at_once_too() -> None:
    async with saying(connack(0, version=5) + b"\x30\x80\x80\x80\x80\x80") as options:
        session = await open_session(options)
        await session.close()
    async with saying(b"\x20\xff\xff\xff\xff\xff\xff") as options, asyncio.timeout(WAIT_SECONDS):
        with pytest.raises(Exception, match=r"malformed packet|does not speak MQTT"):
            await open_session(options)
