"""amqtt in this process: whom it lets in to talk, and what it leaves behind."""

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from plantops_cli.demo.brokers import embedded_broker
from tests.support import wire
from tests.support.scripted_broker import read_packet

ROOT = Path(__file__).parent.parent.parent
V5_PROPERTIES = b"\x05\x11\x00\x00\x00\x3c"  # session expiry, 60 s


async def test_the_embedded_broker_refuses_mqtt_5_in_words_of_mqtt_5(password_file: Path) -> None:
    async with embedded_broker(password_file) as broker:
        for properties in (b"\x00", V5_PROPERTIES):
            request = wire.connect_packet(b"plantops_backend", b"right", level=wire.LEVEL_5, properties=properties)
            assert await wire.answer(broker.port, request) == b"\x20\x03\x00\x84\x00"


async def test_the_embedded_broker_refuses_mqtt_3_1(password_file: Path) -> None:
    async with embedded_broker(password_file) as broker:
        request = wire.connect_packet(b"plantops_backend", b"right", level=wire.LEVEL_3_1)
        assert await wire.answer(broker.port, request) == b"\x20\x02\x00\x01"


@pytest.mark.parametrize(
    "request_bytes",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\x10\xff\xff\xff\xff\x7f", b"\x30\x00"],
    ids=["http", "tls", "endless", "publish"],
)
async def test_the_embedded_broker_hangs_up_on_what_is_no_connect(
    password_file: Path, request_bytes: bytes
) -> None:
    async with embedded_broker(password_file) as broker:
        assert await wire.answer(broker.port, request_bytes) == b""


async def test_a_connect_in_pieces_is_understood(password_file: Path) -> None:
    async with embedded_broker(password_file) as broker, wire.connection(broker.port) as (reader, writer):
        for byte in wire.connect_packet(b"plantops_backend", b"right"):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await read_packet(reader) == (0x20, b"\x00\x00")


@pytest.mark.usefixtures("no_complaints")
async def test_the_embedded_broker_ends_with_clients_in_every_state(password_file: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with embedded_broker(password_file) as broker:
            await stack.enter_async_context(wire.connection(broker.port))
            deaf = await stack.enter_async_context(wire.client(broker.port, client_id=b"deaf"))
            await deaf.subscribe("#", qos=1)
            mouth = await stack.enter_async_context(wire.client(broker.port, client_id=b"mouth"))
            for _ in range(60):
                await mouth.publish("flood", bytes(200_000), qos=0, retain=False)
            await asyncio.sleep(0.2)
            tasks_before_end = len(asyncio.all_tasks())
        assert tasks_before_end > 1
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with pytest.raises(OSError, match=str(broker.port)):
            await asyncio.open_connection(broker.host, broker.port)


@pytest.mark.usefixtures("no_complaints")
async def test_a_cancelled_embedded_broker_leaves_nothing_behind(password_file: Path) -> None:
    async def serve(is_up: asyncio.Event) -> None:
        async with embedded_broker(password_file) as broker, wire.client(broker.port, client_id=b"guest"):
            is_up.set()
            await asyncio.Event().wait()

    is_up = asyncio.Event()
    serving = asyncio.create_task(serve(is_up))
    await is_up.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.usefixtures("no_complaints")
async def test_clients_that_vanish_are_forgotten_without_a_word(password_file: Path) -> None:
    async with embedded_broker(password_file) as broker:
        idle = len(asyncio.all_tasks())
        for number in range(20):
            async with wire.client(broker.port, client_id=b"guest%d" % number) as guest:
                await guest.subscribe("#")
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > idle:
                await asyncio.sleep(0.01)


def test_an_embedded_broker_puts_nothing_on_the_terminal(password_file: Path) -> None:
    script = (
        "import asyncio, logging, sys\n"
        "from pathlib import Path\n"
        "from plantops_cli.demo.brokers import embedded_broker\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "async def main():\n"
        "    async with embedded_broker(Path(sys.argv[1])) as broker:\n"
        "        reader, writer = await asyncio.open_connection(broker.host, broker.port)\n"
        "        writer.write(bytes.fromhex(sys.argv[2]))\n"
        "        await reader.read(4)\n"
        "        writer.close()\n"
        "        await writer.wait_closed()\n"
        "asyncio.run(main(), debug=False)\n"
    )
    request = wire.connect_packet(b"plantops_backend", b"right").hex()
    command = [sys.executable, "-X", "dev", "-c", script, str(password_file), request]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
