"""``listen --group``: a stream that is shared, on a real Mosquitto."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantops_cli.demo.brokers import embedded_broker
from plantops_cli.mosquitto.text.hashing import hash_password
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.plantops import PATIENCE_SECONDS, Done, run, start
from tests.support.publishing import publish
from tests.support.recording import Recording, until
from tests.support.reliable_publisher import Account, ReliablePublisher
from tests.support.scripted_broker import ScriptedBroker, connack, disconnect, properties_of, serving

MANY = 4_000
RATE = 2_000
CONNECTED = "connected to"


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that keeps any number of messages for those who are away."""
    broker = Mosquitto(tmp_path, extra="max_queued_messages 0")
    broker.start()
    yield broker
    broker.stop()


def publisher(broker: Mosquitto) -> ReliablePublisher:
    return ReliablePublisher(broker.port, login=(USERNAME, PASSWORD), count=MANY, rate=RATE)


def member(name: str, path: Path) -> tuple[str, ...]:
    return ("listen", "--group", "barn", "--durable", name, "--to", str(path))


def test_each_message_goes_to_one_of_two_listeners(patient: Mosquitto, tmp_path: Path) -> None:
    first, second = Recording(tmp_path / "1.jsonl"), Recording(tmp_path / "2.jsonl")
    with (
        start(*member("one", first.path), env=patient.environment) as one,
        start(*member("two", second.path), env=patient.environment) as two,
    ):
        for listening in (one, two):
            listening.stderr.wait_for(CONNECTED)
        publisher(patient).run()
        assert until(lambda: len(first.numbers) + len(second.numbers) >= MANY, seconds=PATIENCE_SECONDS)
        codes = [listening.finish(signal.SIGTERM).code for listening in (one, two)]
    assert codes == [0, 0]
    assert sorted(first.numbers + second.numbers) == list(range(MANY))
    assert first.numbers
    assert second.numbers


def test_nothing_is_lost_when_one_of_two_is_killed_and_comes_back(patient: Mosquitto, tmp_path: Path) -> None:
    first, second = Recording(tmp_path / "1.jsonl"), Recording(tmp_path / "2.jsonl")
    with start(*member("one", first.path), env=patient.environment) as one:
        one.stderr.wait_for(CONNECTED)
        with start(*member("two", second.path), env=patient.environment) as two:
            two.stderr.wait_for(CONNECTED)
            with publisher(patient).running() as publishing:
                publishing.wait_for(MANY // 3)
                assert until(lambda: second.numbers, seconds=PATIENCE_SECONDS)  # it has a share to lose
                two.process.send_signal(signal.SIGKILL)
                two.process.wait()
                publishing.wait_for(MANY)
                account = publishing.finish()
        with start(*member("two", second.path), env=patient.environment):
            arrived = until(lambda: not missing(account, first, second), seconds=PATIENCE_SECONDS)
        one.finish(signal.SIGTERM)
    assert arrived, sorted(missing(account, first, second))
    assert len(account.acknowledged) == MANY
    assert second.unmarked_repetitions == []


def missing(account: Account, *recordings: Recording) -> set[int]:
    return set(account.acknowledged).difference(*(recording.numbers for recording in recordings))


# Where nobody shares


def at(port: int) -> tuple[str, ...]:
    return ("listen", "-h", "127.0.0.1", "-p", str(port), "--group", "barn")


def assert_refused(done: Done, *words: str) -> None:
    assert (done.code, len(done.errors), done.stdout) == (6, 1, b""), done.stderr
    assert not [word for word in words if word not in done.errors[0]], done.stderr
    assert CONNECTED not in done.stderr


async def test_a_real_broker_of_mqtt_3_1_1_that_would_grant_a_group_and_stay_silent_is_refused(
    tmp_path: Path,
) -> None:
    env = {"MQTT_BACKEND_PASSWORD": PASSWORD}
    (tmp_path / "passwords").write_text(f"{USERNAME}:{hash_password(PASSWORD.encode(), iterations=1000)}\n")
    async with embedded_broker(tmp_path / "passwords") as broker:
        refused = await asyncio.to_thread(run, *at(broker.port), env=env)
        forced = await asyncio.to_thread(run, *at(broker.port), "--group-anyway", "-W", "1", env=env)
    assert_refused(refused, "'$share/barn/devices/+/telemetry'", "leave --group away", "give --group-anyway")
    assert forced.code == 27, forced.stderr
    assert "unless the broker shares all the same, nothing comes" in forced.stderr
    assert "does not know shared subscriptions" in forced.stderr


@pytest.mark.parametrize(
    ("granted", "answer"),
    [
        ({"SharedSubscriptionAvailable": 0}, "grant"),
        ({}, [0x9E, 0x9E]),
        ({}, disconnect(0x9E, ReasonString="not here")),
    ],
    ids=["CONNACK", "SUBACK", "DISCONNECT"],
)
async def test_a_broker_that_says_that_it_does_not_share_is_6(
    granted: dict[str, int], answer: str | bytes | list[int]
) -> None:
    connected = connack(0, version=5, properties=properties_of(**granted))
    async with serving(ScriptedBroker(answers=[connected], subacks=[answer])) as broker:
        done = await asyncio.to_thread(run, *at(broker.port), env={"MQTT_BACKEND_PASSWORD": PASSWORD})
    assert_refused(done, "0x9e", "Shared subscription not supported", "leave --group away")


async def test_silence_in_a_group_on_mqtt_5_names_this_cause() -> None:
    async with serving(ScriptedBroker()) as broker:
        arguments = (*at(broker.port), "-W", "1")
        done = await asyncio.to_thread(run, *arguments, env={"MQTT_BACKEND_PASSWORD": PASSWORD})
    assert done.code == 27
    assert "no message at all: nobody publishes" in done.stderr
    assert "does not know shared subscriptions" in done.stderr


def test_mosquitto_shares_with_mqtt_3_1_1_where_it_is_asked_for_and_that_is_doubted(mosquitto: Mosquitto) -> None:
    arguments = ("listen", "--group", "barn", "-V", "3.1.1", "-C", "1")
    with start(*arguments, "devices/farmed/telemetry", env=mosquitto.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        publish(mosquitto, "devices/farmed/telemetry", b"1")
        done = listening.finish()
    assert done.code == 0
    assert "MQTT 3.1.1 has no shared subscriptions" in done.stderr
