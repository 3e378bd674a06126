"""Names with several addresses, of which some are silent: by TCP, TLS and WebSocket."""

import asyncio
import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Sequence
from errno import EHOSTUNREACH, ENETUNREACH

import aiohappyeyeballs
import pytest

from plantops_cli.errors import BrokerUnreachableError
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.session import open_session
from plantops_cli.stream.staggering import Address, connect_to_first, look_up
from plantops_cli.stream.tls import TLSOptions
from tests.support.brokers import free_port
from tests.support.certificates import Certificates
from tests.support.rfc6455 import accepting, server_frame
from tests.support.scripted_broker import ScriptedBroker, connack, serving
from tests.support.silent_addresses import resolver, silent
from tests.support.subscribing import WAIT_SECONDS, open_files

SILENT = ("127.0.0.2", "127.0.0.3")


def addresses_of(*hosts: str, port: int) -> list[Address]:
    return [one for host in hosts for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


async def test_addresses_keep_the_order_of_the_system() -> None:
    found = await look_up("127.0.0.1", 1883)
    assert [one[4] for one in found] == [("127.0.0.1", 1883)]
    assert await look_up("::1", 1883) == addresses_of("::1", port=1883)


@pytest.mark.parametrize("hosts", [(*SILENT, "127.0.0.1"), ("::1", "127.0.0.2", "127.0.0.1")])
async def test_an_address_that_answers_is_found_behind_silent_ones(hosts: Sequence[str]) -> None:
    files = open_files()
    async with serving(ScriptedBroker()) as broker:
        with silent(*hosts[:-1], port=broker.port):
            tried = list[Address]()
            sock = await connect_to_first(
                addresses_of(*hosts, port=broker.port), seconds=WAIT_SECONDS, on_try=tried.append
            )
            assert sock.getpeername() == ("127.0.0.1", broker.port)
            assert [one[4][0] for one in tried] == list(hosts)
            sock.close()
    assert open_files() == files


async def test_ipv6_and_ipv4_take_turns() -> None:
    port = free_port()
    tried = list[Address]()
    hosts = addresses_of("127.0.0.1", "127.0.0.2", "::1", port=port)
    with pytest.raises(ConnectionRefusedError):
        await connect_to_first(hosts, seconds=WAIT_SECONDS, on_try=tried.append)
    assert [one[4][0] for one in tried] == ["127.0.0.1", "::1", "127.0.0.2"]


async def test_many_silent_addresses_do_not_use_the_time_up() -> None:
    hosts = [f"127.0.1.{number}" for number in range(1, 41)]
    async with serving(ScriptedBroker()) as broker:
        with silent(*hosts, port=broker.port):
            sock = await connect_to_first(addresses_of(*hosts, "127.0.0.1", port=broker.port), seconds=4)
            assert sock.getpeername()[0] == "127.0.0.1"
            sock.close()


async def test_when_all_are_silent_it_ends_in_time_and_leaves_no_socket() -> None:
    port, files = free_port(), open_files()
    with silent(*SILENT, port=port), pytest.raises(TimeoutError):
        await connect_to_first(addresses_of(*SILENT, port=port), seconds=0.5)
    assert open_files() == files


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (OSError(EHOSTUNREACH, "Connect call failed ('2001:db8::1', 1883, 0, 0)"), [EHOSTUNREACH]),
        (
            OSError(
                f"Multiple exceptions: [Errno {EHOSTUNREACH}] Connect call failed ('192.0.2.1', 1883), "
                f"[Errno {ENETUNREACH}] Network is unreachable"
            ),
            [EHOSTUNREACH, ENETUNREACH],
        ),
    ],
    ids=["one", "several"],
)
async def test_a_failure_is_told_in_the_words_of_the_system(
    raised: OSError, told: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> socket.socket:
        raise raised

    monkeypatch.setattr(aiohappyeyeballs, "start_connection", fail)
    with pytest.raises(OSError, match=os.strerror(told[0])) as caught:
        await connect_to_first(addresses_of("127.0.0.1", port=free_port()), seconds=WAIT_SECONDS)
    assert caught.value.errno == told[0]
    assert caught.value.strerror == ", ".join(map(os.strerror, told))


async def test_that_somebody_refuses_says_more_than_that_there_is_no_way() -> None:
    port = free_port()
    [there] = addresses_of("127.0.0.1", port=port)
    nowhere: Address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("255.255.255.255", port))
    with pytest.raises(ConnectionRefusedError):
        await connect_to_first([nowhere, there], seconds=WAIT_SECONDS)


@contextlib.asynccontextmanager
async def broker_behind(layers: str, certificates: Certificates) -> AsyncIterator[ConnectOptions]:
    """A broker on 127.0.0.1 that is named by another name."""
    server_tls = None
    if "tls" in layers:
        server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_tls.load_cert_chain(certificates.server_cert, certificates.server_key)

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "websocket" in layers:
            writer.write(accepting(await reader.readuntil(b"\r\n\r\n")))
        await reader.read(1_000)
        answer = connack(0, version=5)
        writer.write(server_frame(answer) if "websocket" in layers else answer)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0, ssl=server_tls)
    async with server:
        yield ConnectOptions(
            host="localhost",
            port=server.sockets[0].getsockname()[1],
            tls=TLSOptions(cafile=certificates.ca) if "tls" in layers else None,
            websocket_path="/mqtt" if "websocket" in layers else None,
        )


@pytest.mark.parametrize("layers", ["tcp", "tls", "websocket", "tls websocket"])
async def test_silent_addresses_keep_nobody_from_a_session(
    layers: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolver(*SILENT, "127.0.0.1", name="localhost"))
    async with broker_behind(layers, certificates) as options, asyncio.timeout(WAIT_SECONDS / 2):
        with silent(*SILENT, port=options.port):
            session = await open_session(options)
            await session.close()


async def test_a_name_server_that_says_nothing_ends_the_attempt_and_keeps_nothing_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()

    def never(*_: object, **__: object) -> list[Address]:
        answered.wait(WAIT_SECONDS)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", never)
    began = time.monotonic()
    with pytest.raises(BrokerUnreachableError, match=r"no answer to the question .* within 0\.\d+ s"):
        await open_session(ConnectOptions(host="broker.example", timeout_seconds=0.3))
    assert time.monotonic() - began < WAIT_SECONDS / 2
    waiting = [thread for thread in threading.enumerate() if thread.name == "plantops-blocking"]
    assert all(thread.daemon for thread in waiting)
    answered.set()
    for thread in waiting:
        thread.join()
