"""The password that a function gives."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from plantops_cli.credentials import PasswordSource
from plantops_cli.errors import (
    BrokerUnreachableError,
    ConfigError,
    CredentialsRefusedError,
)
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.password import with_password
from plantops_cli.stream.status import Retrying, State, Status, describe
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.scripted_broker import CONNECT, ScriptedBroker, serving
from tests.support.subscribing import SECRET, eventually


def passwords_in(broker: ScriptedBroker) -> list[bytes]:
    """The password in each CONNECT, which is its last field (MQTT 5, 3.1.3)."""
    return [packet.body.rpartition(b"alice")[2][2:] for packet in broker.of_kind(CONNECT)]


def subscriber(
    broker: ScriptedBroker, password: PasswordSource, said: list[Status] | None = None
) -> MQTTSubscriber:
    on_status = (said if said is not None else []).append
    return MQTTSubscriber("127.0.0.1", broker.port, "alice", password, on_status=on_status)


async def failing(password: Callable[[], object], *, timeout_seconds: float = 5.0) -> Exception:
    mqtt = MQTTSubscriber(
        "127.0.0.1",
        1,
        "alice",
        password,  # type: ignore[arg-type]  # wrong on purpose
        connect_timeout_seconds=timeout_seconds,
    )
    with pytest.raises((BrokerUnreachableError, ConfigError)) as caught:
        await mqtt.connect()
    await mqtt.disconnect()
    assert SECRET not in f"{caught.value} {caught.value.hint} {mqtt!r} {mqtt.options!r}"
    return caught.value


async def test_it_is_asked_before_each_attempt() -> None:
    given: Iterator[str | bytes] = iter(["one", b"two", "three"])
    broker = ScriptedBroker(answers=[0, 0x88, 0])
    async with serving(broker):
        mqtt = subscriber(broker, lambda: next(given))
        await mqtt.connect()
        await mqtt.start()
        broker.hang_up()
        await eventually(lambda: mqtt.health.connection_count == 2)
        await mqtt.disconnect()
    assert passwords_in(broker) == [b"one", b"two", b"three"]
    assert mqtt.password is None


async def test_it_may_be_a_coroutine_function_or_return_one() -> None:
    async def ask() -> str:
        await asyncio.sleep(0)
        return "asked"

    def ask_later() -> Awaitable[str]:
        return ask()

    broker = ScriptedBroker()
    async with serving(broker):
        for source in (ask, ask_later):
            async with subscriber(broker, source):
                pass
    assert passwords_in(broker) == [b"asked"] * 2


async def test_a_login_that_it_gave_and_that_was_right_is_tried_again_and_told_each_time() -> None:
    said: list[Status] = []
    broker = ScriptedBroker(answers=[0, 0x87, 0x86, 0])
    async with serving(broker):
        mqtt = subscriber(broker, lambda: "it", said)
        await mqtt.connect()
        await mqtt.start()
        broker.hang_up()
        await eventually(lambda: mqtt.health.connection_count == 2)
        await mqtt.disconnect()
    told = [describe(one) for one in said if isinstance(one, Retrying) and one.error]
    assert len(told) == 2
    assert all("'alice'" in line and "it was right before" in line for line in told)


async def test_a_login_that_it_gave_and_that_never_was_right_is_final() -> None:
    async with serving(ScriptedBroker(answers=[0x87])) as broker:
        mqtt = subscriber(broker, lambda: "it")
        await mqtt.start()
        with pytest.raises(CredentialsRefusedError):
            await mqtt.wait()
        await mqtt.disconnect()
    assert broker.connection_count == 1


async def test_a_refusal_that_outlasts_all_patience_ends_it() -> None:
    async with serving(ScriptedBroker(answers=[0, 0x87])) as broker:
        mqtt = MQTTSubscriber("127.0.0.1", broker.port, "alice", lambda: "it", login_patience_seconds=0.2)
        await mqtt.connect()
        await mqtt.start()
        broker.hang_up()
        with pytest.raises(CredentialsRefusedError):
            await mqtt.wait()
        assert mqtt.health.state is State.FAILED
        await mqtt.disconnect()
    assert broker.connection_count > 2


async def test_patience_can_be_had_with_a_fixed_password_too() -> None:
    async with serving(ScriptedBroker(answers=[0, 0x87, 0])) as broker:
        mqtt = MQTTSubscriber("127.0.0.1", broker.port, "alice", SECRET, login_patience_seconds=60)
        await mqtt.connect()
        await mqtt.start()
        broker.hang_up()
        await eventually(lambda: mqtt.health.connection_count == 2)
        await mqtt.disconnect()


async def test_its_error_says_what_failed_but_not_with_which_words() -> None:
    def read_vault() -> str:
        raise RuntimeError(SECRET)

    error = await failing(read_vault)
    assert isinstance(error, BrokerUnreachableError)
    assert "no password to log in with" in str(error)
    assert str(error).endswith("read_vault raised RuntimeError")
    assert isinstance(error.__cause__, RuntimeError)


async def test_its_error_of_the_system_is_said_with_its_reason() -> None:
    def read_file() -> bytes:
        with open("/nowhere/at/all", "rb") as file:  # noqa: PTH123  # that fails
            return file.read()

    assert str(await failing(read_file)).endswith("read_file raised FileNotFoundError: No such file or directory")


@pytest.mark.parametrize("given", [None, 12345, ["a"]], ids=str)
async def test_what_is_no_password_is_refused_for_good(given: object) -> None:
    error = await failing(lambda: given)
    assert isinstance(error, ConfigError)
    assert f"gave {type(given).__name__} for a password" in str(error)


async def test_one_that_is_too_long_is_refused() -> None:
    assert "more than 65535 bytes" in str(await failing(lambda: "x" * 70_000))


async def test_one_that_takes_too_long_counts_as_an_attempt_that_failed() -> None:
    async def never() -> str:
        await asyncio.sleep(3600)
        return "late"

    error = await failing(never, timeout_seconds=0.1)
    assert str(error).endswith("never has given none in time")


async def test_a_function_that_blocks_holds_up_nobody_and_no_connect() -> None:
    def block() -> str:
        time.sleep(1)
        return "late"

    error = await failing(block, timeout_seconds=0.1)
    assert "has given none in time" in str(error)


async def test_after_its_error_it_is_asked_again() -> None:
    failures = [OSError(5, "Input/output error")]

    def ask() -> str:
        if failures:
            raise failures.pop()
        return "it"

    said: list[Status] = []
    async with serving(ScriptedBroker()) as broker:
        mqtt = subscriber(broker, ask, said)
        await mqtt.start()
        await eventually(lambda: mqtt.health.state is State.CONNECTED)
        await mqtt.disconnect()
    assert passwords_in(broker) == [b"it"]
    assert any("Input/output error; retry in" in describe(status) for status in said)


async def test_a_fixed_password_is_left_as_it_is() -> None:
    options = ConnectOptions(host="h", username="alice", password=SECRET)
    assert await with_password(options, deadline=0) is options


def test_what_a_function_gives_is_guarded_like_any_password() -> None:
    (danger,) = ConnectOptions(host="broker.example", username="alice", password=lambda: SECRET).dangers
    assert "the password crosses the network" in danger
