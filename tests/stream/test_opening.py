"""How a connection is made, by each kind of socket, and given up without leaving anything behind."""

import asyncio
import gc
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plantops_cli.errors import BrokerError, BrokerUnreachableError
from plantops_cli.stream.opening import Opening, transport
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.session import open_session
from plantops_cli.stream.tls import TLSOptions
from plantops_cli.stream.waiting import in_daemon_thread
from tests.support.brokers import free_port
from tests.support.scripted_broker import DISCONNECT, ScriptedBroker, serving
from tests.support.subscribing import WAIT_SECONDS, eventually, no_room, open_files, refusal


@contextmanager
def listener() -> Iterator[tuple[socket.socket, ConnectOptions]]:
    """A port at which nobody but the system answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_SECONDS)
        yield server, ConnectOptions(host="127.0.0.1", port=server.getsockname()[1])


async def test_what_is_sent_by_tcp_waits_for_nothing_that_was_sent_before() -> None:
    with listener() as (_, options):
        opening = Opening(options, None)
        await opening.connect(WAIT_SECONDS)
        made = opening.create()
        assert isinstance(made, socket.socket)
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        opening.close()
        assert made.fileno() < 0


async def test_a_thread_that_waits_for_tls_is_woken_when_the_attempt_is_given_up() -> None:
    with listener() as (server, options):
        opening = Opening(options, ssl.create_default_context())
        await opening.connect(WAIT_SECONDS)
        making = asyncio.create_task(in_daemon_thread(opening.create))
        theirs = await asyncio.to_thread(lambda: server.accept()[0])
        with theirs:
            assert await asyncio.to_thread(theirs.recv, 1)  # the handshake has begun
            opening.abort()
            with pytest.raises(OSError, match=r"\S") as caught:
                await asyncio.wait_for(making, WAIT_SECONDS)
        assert not isinstance(caught.value, TimeoutError)
        assert opening.layer == "TLS"
        opening.close()


def test_before_anything_is_made_there_is_nothing_to_close() -> None:
    opening = Opening(ConnectOptions(host="h"), None)
    opening.close()
    opening.abort()
    with pytest.raises(ConnectionAbortedError):
        opening.create()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (ConnectOptions(host="h"), "tcp"),
        (ConnectOptions(host="h", websocket_path="/mqtt"), "websockets"),
        (ConnectOptions(host="h", unix_socket="/run/s"), "unix"),
    ],
    ids=["tcp", "websockets", "unix"],
)
def test_the_transport_has_pahos_name(options: ConnectOptions, name: str) -> None:
    assert transport(options) == name


async def test_ten_tries_on_a_silent_broker_leave_no_socket_no_task_and_no_thread() -> None:
    async with serving(ScriptedBroker(answers=[None])) as broker:
        await refusal(broker, seconds=0.3)
        await eventually(lambda: len(asyncio.all_tasks()) == 1)
        files, threads = open_files(), threading.active_count()
        for _ in range(10):
            await refusal(broker, seconds=0.3)
        await eventually(lambda: open_files() == files)
        await eventually(lambda: threading.active_count() <= threads)
        await eventually(lambda: len(asyncio.all_tasks()) == 1)
        assert broker.connection_count == 11


@pytest.mark.parametrize("delay_seconds", [0, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016])
async def test_a_cancelled_attempt_leaves_no_socket_and_no_thread(delay_seconds: float) -> None:
    async with serving(ScriptedBroker(answers=[None])) as broker:
        files, threads = open_files(), threading.active_count()
        attempt = asyncio.create_task(refusal(broker))
        await asyncio.sleep(delay_seconds)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await eventually(lambda: open_files() == files and threading.active_count() == threads)


async def test_an_attempt_given_up_says_nothing_when_its_tcp_handshake_succeeds_late() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as busy:
        busy.setblocking(False)
        port = busy.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # fills the queue of the listener
            await refusal(ScriptedBroker(port=port), seconds=0.2)
            (await loop.sock_accept(busy))[0].close()
            with socket.create_connection(("127.0.0.1", port)) as last:
                async with asyncio.timeout(WAIT_SECONDS):
                    while True:
                        late, peer = await loop.sock_accept(busy)
                        with late:
                            if peer == last.getsockname():
                                break
                            assert await loop.sock_recv(late, 100) == b""


@pytest.mark.parametrize("tls", [None, TLSOptions(cafile=Path(__file__))], ids=["plain", "TLS"])
async def test_an_attempt_without_room_for_one_more_open_file_may_be_repeated(tls: TLSOptions | None) -> None:
    options = ConnectOptions(host="127.0.0.1", port=free_port(), tls=tls)
    with no_room(), pytest.raises(BrokerUnreachableError, match="cannot connect: too many open files") as caught:
        await open_session(options, lambda _: None)
    assert caught.value.hint
    assert "ulimit -n" in caught.value.hint


async def test_no_broker_at_all_is_unreachable() -> None:
    error = await refusal(ScriptedBroker(port=free_port()))
    assert str(error).endswith("nothing listens there")


async def test_a_unix_socket_carries_a_session() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = f"{name}/s"
        broker = ScriptedBroker()
        serving_tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            serving_tasks.add(asyncio.create_task(broker.serve(reader, writer)))

        server = await asyncio.start_unix_server(accept, path)
        session = await open_session(ConnectOptions(host="nowhere.invalid", unix_socket=path), lambda status: None)
        assert await session.subscribe({"a": 1}) == {"a": 1}
        await session.close()
        await broker.wait_for(DISCONNECT)
        server.close()
        await asyncio.gather(*serving_tasks)


async def test_a_unix_socket_that_is_not_there_is_no_matter_of_ports(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnreachableError, match="no socket is there") as caught:
        await open_session(ConnectOptions(host="h", unix_socket=str(tmp_path / "none")), lambda status: None)
    assert "path of its listener" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["missing", "a-file", "x" * 200])
async def test_a_unix_socket_that_is_none_is_unreachable_and_left_closed(tmp_path: Path, name: str) -> None:
    (tmp_path / "a-file").touch()
    options = ConnectOptions(host="h", unix_socket=str(tmp_path / name))
    files = open_files()
    with pytest.raises(BrokerUnreachableError, match=r"cannot connect|nothing listens"):
        await open_session(options, lambda status: None)
    await eventually(lambda: open_files() == files)


async def test_a_websocket_handshake_without_end_leaves_no_thread_and_no_socket() -> None:
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"HTTP/1.1 101 " + b"x" * 65_536)
                await writer.drain()
        except OSError:
            ended.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        options = ConnectOptions(
            host="127.0.0.1",
            port=server.sockets[0].getsockname()[1],
            websocket_path="/mqtt",
            timeout_seconds=WAIT_SECONDS,
        )
        with pytest.raises(BrokerUnreachableError, match="the answer has no end"):
            await open_session(options, lambda status: None)
        async with asyncio.timeout(WAIT_SECONDS):
            await ended.wait()
        await eventually(
            lambda: not [thread for thread in threading.enumerate() if thread.name == "plantops-blocking"]
        )


@pytest.mark.parametrize("answer", [b"HTTP/1.1 404 Not Found\r\n\r\n", b""])
async def test_a_websocket_that_is_refused_closes_its_socket(answer: bytes) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    before = open_files()
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        options = ConnectOptions(host="127.0.0.1", port=server.sockets[0].getsockname()[1], websocket_path="/mqtt")
        with pytest.raises(BrokerError):
            await open_session(options, lambda status: None)
    gc.collect()  # which would warn of a socket that nobody closed
    await eventually(lambda: open_files() <= before)
