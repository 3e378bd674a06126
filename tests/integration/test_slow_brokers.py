"""Brokers that are slow, not dead: hosted ones take up to 15 s for an answer."""

import asyncio
import contextlib
import json

import pytest

from plantops_cli.errors import BrokerUnreachableError, ConnectionLostError
from plantops_cli.mosquitto.broker.proof import LoginAnswer, log_in
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.status import State
from tests.support.plantops import run
from tests.support.scripted_broker import CONNECT, SUBSCRIBE, ScriptedBroker, publish, serving
from tests.support.slow_broker import SlowBroker
from tests.support.subscribing import WAIT_SECONDS, Recorder, eventually, subscribing

RETAINED = publish(b"devices/a/telemetry", b"1")


async def versions_of(broker: SlowBroker, version: str = "auto") -> list[int]:
    """Connect and subscribe with the defaults, and return the protocol levels that were tried."""
    async with serving(broker), subscribing(broker, mqtt_version=version) as subscriber:
        subscriber.register_handler("a", Recorder())
        await subscriber.connect()
        assert subscriber.health.state is State.CONNECTED
        return [packet.body[6] for packet in broker.of_kind(CONNECT)]


async def login_on(broker: SlowBroker) -> LoginAnswer:
    async with serving(broker):
        return await log_in(ConnectOptions(host="127.0.0.1", port=broker.port, username="u", password="p"))


async def code_of(broker: SlowBroker, command: str, *flags: str) -> tuple[int, bytes]:
    async with serving(broker):
        where = ("-h", "127.0.0.1", "-p", str(broker.port), "--anonymous")
        done = await asyncio.to_thread(run, command, *flags, *where)
    return done.code, done.stdout


async def test_a_broker_that_is_slow_by_default_is_reached_by_everybody() -> None:
    found = await asyncio.gather(
        versions_of(SlowBroker(suback_seconds=3)),
        versions_of(SlowBroker(connack_seconds=7)),
        versions_of(SlowBroker(connack_seconds=7, suback_seconds=3)),
        versions_of(SlowBroker(connack_seconds=12), "5"),
        versions_of(SlowBroker(connack_seconds=12)),
    )
    # MQTT 5 is given up after 10 s, and 3.1.1 has the rest
    assert list(found) == [[5], [5], [5], [5], [5, 4]]


async def test_and_by_each_command() -> None:
    slow = {"connack_seconds": 7.0, "suback_seconds": 3.0, "after_suback": RETAINED}
    answer, listened, examined, checked = await asyncio.gather(
        login_on(SlowBroker(connack_seconds=7)),
        code_of(SlowBroker(**slow), "listen", "-C", "1"),  # type: ignore[arg-type]  # of one dictionary
        code_of(SlowBroker(**slow), "doctor", "a/#", "-o", "json"),  # type: ignore[arg-type]  # nor here
        code_of(SlowBroker(**slow), "check", "--within", "1s"),  # type: ignore[arg-type]  # nor here
    )
    assert answer is LoginAnswer.ACCEPTED
    assert listened[0] == 0
    assert json.loads(listened[1])["device_id"] == "a"
    steps = {step["name"]: step["status"] for step in json.loads(examined[1])["steps"]}
    assert (steps["MQTT"], steps["subscribe"]) == ("ok", "ok")
    assert checked[0] == 0


@pytest.mark.parametrize("slow", [{"connack_seconds": 1.0}, {"suback_seconds": 1.0}])
@pytest.mark.parametrize("version", ["auto", "5"])
async def test_who_keeps_trying_does_not_give_up_just_before_the_answer_for_ever(
    slow: dict[str, float], version: str
) -> None:
    broker = SlowBroker(**slow)  # type: ignore[arg-type]  # of one dictionary
    async with (
        serving(broker),
        subscribing(broker, connect_timeout_seconds=0.3, mqtt_version=version) as subscriber,
    ):
        subscriber.register_handler("a", Recorder())
        await subscriber.start()
        await eventually(lambda: subscriber.health.state is State.CONNECTED)
        assert broker.connection_count > 1


async def test_the_command_that_waits_for_a_broker_does_so_too() -> None:
    broker = SlowBroker(connack_seconds=1.0, after_suback=RETAINED)
    code, stdout = await code_of(broker, "listen", "-C", "1", "--wait-for-broker", "--connect-timeout", "0.3")
    assert (code, stdout.count(b"\n")) == (0, 1)


async def test_connect_is_one_attempt_of_one_deadline() -> None:
    async with (
        serving(ScriptedBroker(answers=[None])) as broker,
        subscribing(broker, connect_timeout_seconds=2) as subscriber,
    ):
        for _ in range(2):  # nor does it grow
            async with asyncio.timeout(WAIT_SECONDS / 3):
                with pytest.raises(BrokerUnreachableError, match="no MQTT answer within 2 s"):
                    await subscriber.connect()


async def test_silence_after_the_connack_uses_up_the_same_deadline() -> None:
    async with (
        serving(ScriptedBroker(subacks=[None])) as broker,
        subscribing(broker, connect_timeout_seconds=2) as subscriber,
    ):
        subscriber.register_handler("a", Recorder())
        with pytest.raises(ConnectionLostError, match=r"no answer to SUBSCRIBE within [12](\.\d+)? s"):
            await subscriber.connect()


async def test_a_broker_that_answers_pings_and_never_subscribe_cannot_hold_connect_up() -> None:
    async def say_something(broker: ScriptedBroker) -> None:
        await broker.wait_for(SUBSCRIBE)
        while True:
            with contextlib.suppress(ConnectionError):  # whoever has waited long enough hangs up
                await broker.send(b"\xd0\x00")
            await asyncio.sleep(0.05)

    async with (
        serving(ScriptedBroker(subacks=[None])) as broker,
        subscribing(broker, connect_timeout_seconds=2) as subscriber,
    ):
        subscriber.register_handler("a", Recorder())
        talking = asyncio.create_task(say_something(broker))
        async with asyncio.timeout(WAIT_SECONDS / 2):
            with pytest.raises(ConnectionLostError, match="no answer to SUBSCRIBE"):
                await subscriber.connect()
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_time_that_is_none_is_refused_before_anything_is_connected(seconds: str) -> None:
    done = run("listen", "--anonymous", "--connect-timeout", seconds)
    assert done.code == 2
    assert "connect timeout" in done.stderr
