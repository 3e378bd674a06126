"""``listen --group``: a stream that is shared, on a real Mosquitto."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.plantops import PATIENCE_SECONDS, start
from tests.support.recording import Recording, until
from tests.support.reliable_publisher import Account, ReliablePublisher

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
    return ("listen", "--group", "farm", "--durable", name, "--to", str(path))


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
