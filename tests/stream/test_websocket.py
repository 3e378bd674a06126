"""A WebSocket in place of a socket: what it asks for, and every frame that leaves."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from plantops_cli.errors import BrokerUnreachableError, ConnectionLostError
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.session import Session, open_session
from plantops_cli.stream.websocket import (
    HandshakeRefusedError,
    WebSocket,
    WebSocketEndedError,
    open_websocket,
)
from tests.support.rfc6455 import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    ClientFrame,
    accepting,
    client_frames,
    server_frame,
)
from tests.support.scripted_broker import DISCONNECT, PUBLISH, ScriptedBroker, connack, publish
from tests.support.subscribing import WAIT_SECONDS, collect, eventually, take

LIMIT = 1024 * 1024


@pytest.fixture
def pair() -> Iterator[tuple[WebSocket, socket.socket]]:
    """Our end, and the server's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(WAIT_SECONDS)
    with ours, theirs:
        yield WebSocket(ours, LIMIT), theirs


def sent_to(theirs: socket.socket) -> list[ClientFrame]:
    """The frames that have come, each held against the RFC."""
    theirs.setblocking(False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while piece := theirs.recv(1_000_000):
            data += piece
    return client_frames(data)


def read_all(web: WebSocket) -> bytes:
    got = b""
    with contextlib.suppress(BlockingIOError):
        while piece := web.recv(1_000_000):
            got += piece
    return got


def test_a_ping_is_answered_with_a_masked_pong_that_has_its_payload(pair: tuple[WebSocket, socket.socket]) -> None:
    web, theirs = pair
    theirs.sendall(server_frame(b"one") + server_frame(b"are you there?", PING) + server_frame(b"two"))
    assert read_all(web) == b"onetwo"
    assert [(one.opcode, one.payload) for one in sent_to(theirs)] == [(PONG, b"are you there?")]


def test_a_pong_never_stands_in_the_middle_of_a_frame(pair: tuple[WebSocket, socket.socket]) -> None:
    web, theirs = pair
    data = b"x" * 5_000_000
    with pytest.raises(BlockingIOError):
        web.send(data)
    theirs.sendall(server_frame(b"now", PING))
    assert read_all(web) == b""
    wire = bytearray()
    theirs.setblocking(False)
    while True:
        with contextlib.suppress(BlockingIOError):
            while piece := theirs.recv(1_000_000):
                wire += piece
        with contextlib.suppress(BlockingIOError):
            if web.send(data):
                break
    wire += theirs.recv(1_000_000)
    with contextlib.suppress(BlockingIOError):
        wire += theirs.recv(1_000_000)
    assert [(one.opcode, len(one.payload)) for one in client_frames(bytes(wire))] == [
        (BINARY, len(data)),
        (PONG, 3),
    ]


def test_who_pings_without_end_and_reads_nothing_costs_no_memory(pair: tuple[WebSocket, socket.socket]) -> None:
    web, theirs = pair
    for _ in range(20_000):
        theirs.sendall(server_frame(b"p" * 125, PING))
        assert read_all(web) == b""
    assert len(web._unsent) + len(web._unframer.pong or b"") < 1_000


def test_a_goodbye_is_answered_and_then_told(pair: tuple[WebSocket, socket.socket]) -> None:
    web, theirs = pair
    theirs.sendall(server_frame(b"last") + server_frame(b"\x03\xe9restart", CLOSE))
    assert web.recv(1_000) == b"last"
    assert web.pending()  # of the end the selector knows nothing
    with pytest.raises(WebSocketEndedError, match=r"closed the WebSocket \(1001, going away\)"):
        web.recv(1_000)
    assert not web.pending()
    assert [(one.opcode, one.payload) for one in sent_to(theirs)] == [(CLOSE, b"\x03\xe9")]


def test_nothing_follows_a_goodbye_not_even_an_acknowledgement(pair: tuple[WebSocket, socket.socket]) -> None:
    web, theirs = pair
    theirs.sendall(server_frame(b"a message") + server_frame(b"\x03\xe9", CLOSE))
    assert web.recv(1_000) == b"a message"
    assert web.send(b"its acknowledgement") == len(b"its acknowledgement")
    assert [one.opcode for one in sent_to(theirs)] == [CLOSE]


def test_who_leaves_says_goodbye_once(pair: tuple[WebSocket, socket.socket]) -> None:
    web, theirs = pair
    web.send(b"bye")
    web.shutdown(socket.SHUT_WR)
    web.shutdown(socket.SHUT_WR)
    theirs.sendall(server_frame(b"\x03\xe8", CLOSE))
    with pytest.raises(WebSocketEndedError):
        web.recv(1_000)
    assert [(one.opcode, one.payload) for one in sent_to(theirs)] == [(BINARY, b"bye"), (CLOSE, b"\x03\xe8")]


# The handshake


def asked(answer: Callable[[bytes], bytes], **more: Any) -> tuple[bytes, Exception | None]:
    """The request, and what came of an answer to it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(WAIT_SECONDS)
        theirs.settimeout(WAIT_SECONDS)
        requests = list[bytes]()

        def serve_one() -> None:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += theirs.recv(10_000)
            requests.append(request)
            with contextlib.suppress(OSError):
                theirs.sendall(answer(request))
            theirs.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=serve_one)
        thread.start()
        wanted: dict[str, Any] = {"host": "h", "port": 8080, "path": "/mqtt", "is_tls": False} | more
        try:
            open_websocket(ours, max_packet_bytes=LIMIT, **wanted)
        except HandshakeRefusedError as exc:
            return requests[0], exc
        finally:
            ours.close()
            thread.join()
        return requests[0], None


@pytest.mark.parametrize(
    ("more", "first", "host"),
    [
        ({}, b"GET /mqtt HTTP/1.1", b"h:8080"),
        ({"port": 80}, b"GET /mqtt HTTP/1.1", b"h"),
        ({"port": 443, "is_tls": True}, b"GET /mqtt HTTP/1.1", b"h"),
        ({"host": "::1", "path": "mqtt"}, b"GET /mqtt HTTP/1.1", b"[::1]:8080"),
        ({"host": "bücher.example", "path": ""}, b"GET / HTTP/1.1", b"xn--bcher-kva.example:8080"),
        ({"path": "/a b?token=x%20y&z=1"}, b"GET /a%20b?token=x%20y&z=1 HTTP/1.1", b"h:8080"),
        ({"path": "/a\r\nX-Evil: 1"}, b"GET /a%0D%0AX-Evil:%201 HTTP/1.1", b"h:8080"),
    ],
)
def test_the_request_names_path_host_and_protocol(more: dict[str, Any], first: bytes, host: bytes) -> None:
    request, exc = asked(accepting, **more)
    assert exc is None
    lines = request.split(b"\r\n")
    assert lines[0] == first
    assert b"Host: " + host in lines
    assert b"Sec-WebSocket-Protocol: mqtt" in lines
    assert b"X-Evil: 1" not in lines


@pytest.mark.parametrize(
    ("cut", "paste", "said"),
    [
        (b"Accept: ", b"Accept: x", "to another request"),
        (b"Connection: Upgrade", b"Connection: close", "begins no WebSocket"),
        (b"Upgrade: websocket", b"Upgrade: h2c", "begins no WebSocket"),
        (b"Protocol: mqtt", b"Protocol: wamp", "for another protocol than mqtt"),
        (b"Connection: ", b"Sec-WebSocket-Extensions: permessage-deflate\r\nConnection: ", "with an extension"),
    ],
)
def test_a_101_that_is_none_is_refused(cut: bytes, paste: bytes, said: str) -> None:
    _, exc = asked(lambda request: accepting(request).replace(cut, paste))
    assert said in str(exc)


def test_a_header_is_read_whatever_its_case_and_spaces() -> None:
    def answer(request: bytes) -> bytes:
        return accepting(request).replace(b"Connection: Upgrade", b"CONNECTION:keep-alive , upgrade")

    assert asked(answer)[1] is None


# With a broker behind it


@contextlib.asynccontextmanager
async def answering(answer: bytes | Callable[[bytes], bytes]) -> AsyncIterator[ConnectOptions]:
    """A server that gives one answer to the request, and then nothing."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(answer if isinstance(answer, bytes) else answer(request))
        with contextlib.suppress(ConnectionResetError):  # who has seen enough reads no more
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield ConnectOptions(host="127.0.0.1", port=port, websocket_path="/mqtt", timeout_seconds=WAIT_SECONDS)


@pytest.mark.parametrize(
    ("answer", "said", "cure"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "/mqtt: 404 Not Found", "check websocket_path=PATH, often /mqtt"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "/mqtt: 401 Unauthorized", "a login of its own"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "/mqtt: 403 Forbidden", "does not let everybody in"),
        (
            b"HTTP/1.1 301 Moved Permanently\r\nlocation: https://u:hunter2@h:8443/ws?key=hunter2\r\n\r\n",
            "/mqtt: 301 Moved Permanently, to 'https://h:8443/ws'",
            "that it points to",
        ),
        (
            b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
            "/mqtt: 503 Service",
            "the broker behind it does not answer",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", "/mqtt: 200 OK", "there is a web page"),
        (b"HTTP/1.1 499\r\n\r\n", "/mqtt: 499", "port and path"),
        (b"HTTP/1.1 " + b"9" * 5_000 + b"\r\n\r\n", "/mqtt: the answer has no HTTP status", "port and path"),
        (b"HTTP/1.1 000 x\r\n\r\n", "/mqtt: the answer has no HTTP status", "port and path"),
        (b"HTTP/1.1\r\n\r\n", "/mqtt: the answer has no HTTP status", "port and path"),
        (b"HTTP/1.1 404 hunter2\x1b[2J\r\n\r\n", "/mqtt: 404 Not Found", "websocket_path"),
        (b"HTTP/1.1 307 x\r\nlocation: /ws?key=hunter2\r\n\r\n", "Temporary Redirect, to '/ws'", "points to"),
        (b"HTTP/1.1 307 x\r\nlocation: http://[/\r\n\r\n", "/mqtt: 307 Temporary Redirect", "points to"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is no HTTP", "for WebSocket"),
        (b"HTTP/1.1 101 " + b"x" * 100_000, "the answer has no end within 16,384 bytes", "for WebSocket"),
    ],
)
async def test_a_refused_handshake_says_at_once_the_path_and_why(answer: bytes, said: str, cure: str) -> None:
    async with answering(answer) as options, asyncio.timeout(WAIT_SECONDS / 2):
        with pytest.raises(BrokerUnreachableError) as caught:
            await open_session(options)
    assert said in str(caught.value)
    assert cure in (caught.value.hint or "")
    # whoever answers may repeat what it was asked
    assert not any(word in str(caught.value) for word in ("\x1b", "hunter2"))


class _Writer:
    """As much of a StreamWriter as a scripted broker uses, on a WebSocket of another library."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._queue = asyncio.Queue[bytes]()
        self._is_closing = False

    def write(self, data: bytes) -> None:
        if data:
            self._queue.put_nowait(data)

    async def drain(self) -> None: ...

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True
        self._queue.put_nowait(b"")

    async def pump(self) -> None:
        while data := await self._queue.get():
            await self._connection.send(data)
        await self._connection.close(1001, "restart")


@contextlib.asynccontextmanager
async def session_through(broker: ScriptedBroker, **server_options: Any) -> AsyncIterator[Session]:
    """A session on a scripted broker behind the ``websockets`` library, which drops who breaks the RFC."""

    async def handle(connection: ServerConnection) -> None:
        content, writer = asyncio.StreamReader(), _Writer(connection)
        both = [
            asyncio.create_task(broker.serve(content, writer)),  # type: ignore[arg-type]  # as much as is used
            asyncio.create_task(writer.pump()),
        ]
        async for data in connection:
            assert isinstance(data, bytes)
            content.feed_data(data)
        content.feed_eof()
        await asyncio.gather(*both, return_exceptions=True)

    async with serve(handle, "127.0.0.1", 0, subprotocols=["mqtt"], **server_options) as server:  # type: ignore[list-item]  # a NewType of theirs
        port = next(iter(server.sockets)).getsockname()[1]
        options = ConnectOptions(
            host="127.0.0.1",
            port=port,
            websocket_path="/mqtt",
            mqtt_version=MQTTVersion.V5,
            timeout_seconds=WAIT_SECONDS,
        )
        session = await open_session(options)
        try:
            yield session
        finally:
            await session.close()


async def test_a_server_that_pings_keeps_the_connection() -> None:
    broker = ScriptedBroker()
    async with session_through(broker, ping_interval=0.05, ping_timeout=WAIT_SECONDS) as session:
        assert await session.subscribe({"#": 1}) == {"#": 1}
        for count in range(10):
            await asyncio.sleep(0.05)
            await broker.send(publish(b"a", b"%d" % count))
        assert [message.payload for message in await take(session, 10)] == [b"%d" % count for count in range(10)]
        assert not session.has_ended
    await broker.wait_for(DISCONNECT)


@pytest.mark.parametrize("size", [100, 60_000, 1_000_000])
async def test_large_packets_go_both_ways(size: int) -> None:
    broker = ScriptedBroker(pubacks=[0])
    async with session_through(broker, max_size=None) as session:
        await session.subscribe({"#": 1})
        assert await session.publish("a", b"x" * size, qos=1, retain=False) == 0
        assert len(broker.of_kind(PUBLISH)[0].body) > size
        await broker.send(publish(b"b", b"y" * size))
        assert [message.payload for message in await take(session, 1)] == [b"y" * size]


async def test_what_a_server_says_when_it_closes_is_handed_on() -> None:
    broker = ScriptedBroker()
    async with session_through(broker) as session:
        broker.hang_up()
        with pytest.raises(ConnectionLostError, match=r"connection lost: the broker closed the WebSocket \(1001"):
            await collect(session, [])


async def test_every_frame_of_a_whole_session_is_as_the_rfc_has_it() -> None:
    wire, is_closed = bytearray(), asyncio.Event()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(accepting(await reader.readuntil(b"\r\n\r\n")))
        writer.write(server_frame(b"before", PING) + server_frame(connack(0, version=5)[:2], BINARY, 0))
        writer.write(server_frame(b"amid", PING) + server_frame(connack(0, version=5)[2:], 0))
        while data := await reader.read(100_000):
            wire.extend(data)
        is_closed.set()
        writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    async with server:
        options = ConnectOptions(
            host="127.0.0.1",
            port=server.sockets[0].getsockname()[1],
            websocket_path="/mqtt",
            mqtt_version=MQTTVersion.V5,
        )
        session = await open_session(options)
        await session.publish("a", b"x" * 70_000, qos=0, retain=False)
        await session.close()
        await is_closed.wait()
    kinds = [one.opcode for one in client_frames(bytes(wire))]
    assert kinds.count(PONG) in (1, 2)  # none but the last has to be answered
    assert kinds[-1] == CLOSE
    assert b"amid" in [one.payload for one in client_frames(bytes(wire)) if one.opcode == PONG]
    await eventually(lambda: len(asyncio.all_tasks()) == 1)
