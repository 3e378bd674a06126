"""``listen --durable``: what is published at QoS 1 arrives, whoever crashes meanwhile.

The broker runs ``examples/mosquitto.conf``: with Mosquitto's own defaults it is the broker that loses.
"""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from plantops_cli.stream.options import DURABLE_RECEIVE_MAXIMUM
from tests.integration.test_listen_to_nobody import bytes_unread
from tests.support.example_conf import DEVICES, FarmMosquitto, farm_mosquitto
from tests.support.plantops import PATIENCE_SECONDS, Running, run, start
from tests.support.processes import Process
from tests.support.recording import Recording, until
from tests.support.reliable_publisher import Account, ReliablePublisher

MANY = 2_000  # messages between two kills
KILLS = [3, pytest.param(10, marks=pytest.mark.long)]
RATE = 1_500  # messages/s while a listener is killed again and again: enough to queue while it starts
CATCH_UP_SECONDS = 150.0  # the longest delays between attempts to connect, and a backlog saved anew at each step
NAME = "shed"
DURABLE = ("listen", "--durable", NAME, "-o", "jsonl")
CONNECTED = "connected to"
NEW_SESSION = "a new session begins"
SESSION_LOST = "warning: .* has forgotten the session"


@pytest.fixture
def farm() -> Iterator[FarmMosquitto]:
    with farm_mosquitto() as broker:
        yield broker


def devices(
    broker: FarmMosquitto, count: int | None = None, *, first: int = 0, rate: float = 0
) -> ReliablePublisher:
    return ReliablePublisher(broker.port, login=DEVICES, count=count, first=first, rate=rate)


# The broker crashes


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", KILLS)
def test_only_what_the_broker_lost_is_missing_after_crashes_of_the_broker(
    farm: FarmMosquitto, tmp_path: Path, kills: int
) -> None:
    recording = Recording(tmp_path / "lines")
    with start(*DURABLE, env=farm.environment, redirect=">lines") as listening:
        listening.stderr.wait_for(CONNECTED)
        account = publish_over_crashes(farm, kills)
        until(lambda: not lost(recording, account), seconds=CATCH_UP_SECONDS, poll_seconds=0.5)
        done = listening.finish(signal.SIGTERM)
    assert (done.code, lost(recording, account)) == (0, set()), done.stderr[-2_000:]
    assert not account.unheard, "the broker had forgotten the session"


def publish_over_crashes(broker: FarmMosquitto, kills: int) -> Account:
    """Publish until each message is acknowledged, and kill the broker so many times meanwhile."""
    count = MANY * kills
    with devices(broker, count).running() as publisher:
        for kill in range(1, kills + 1):
            publisher.wait_for(kill * count // (kills + 1))
            broker.kill()
            broker.start()
        publisher.wait_for(count)
        account = publisher.finish()
    assert len(account.last_of_connection) <= kills, "a connection ended without a kill"
    return account


def lost(recording: Recording, account: Account) -> set[int]:
    """What is missing and not forgiven.

    Forgiven is what may have been on its way to the listener when a kill ended a connection of the publisher, and
    the message acknowledged last: Mosquitto sends PUBACK before it saves, and saves only when a message is queued
    or acknowledged.
    """
    last = [number for number in account.last_of_connection if number is not None]
    on_their_way = {number - back for number in last for back in range(DURABLE_RECEIVE_MAXIMUM + 1)}
    return recording.missing(account.acknowledged) - on_their_way


def test_a_crash_of_both_costs_what_was_on_its_way(farm: FarmMosquitto, tmp_path: Path) -> None:
    recording = Recording(tmp_path / "lines")
    with start(*DURABLE, env=farm.environment, redirect=">lines") as listening:
        listening.stderr.wait_for(CONNECTED)
        os.kill(listening.process.pid, signal.SIGSTOP)  # what comes now is never read
        with devices(farm, MANY).running() as publisher:
            publisher.wait_for(MANY)
            account = publisher.finish()
        farm.kill()
    farm.start()
    with start(*DURABLE, env=farm.environment, redirect=">>lines"):
        until(lambda: MANY - 1 in recording.numbers, seconds=CATCH_UP_SECONDS)
    assert len(recording.missing(account.acknowledged)) <= DURABLE_RECEIVE_MAXIMUM


# The listener crashes


@contextmanager
def plantops_to_file(broker: FarmMosquitto, path: Path) -> Iterator[Process]:
    with start("listen", "--durable", NAME, "--to", str(path), env=broker.environment) as listening:
        yield listening.process


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", KILLS)
def test_nothing_is_missing_in_the_file_after_crashes_of_the_listener(
    farm: FarmMosquitto, tmp_path: Path, kills: int
) -> None:
    recording = Recording(tmp_path / "lines.jsonl")
    account = publish_to_a_crashing_listener(farm, recording, kills)
    assert recording.missing(kept_by(account)) == set()
    assert recording.unmarked_repetitions == []


def kept_by(account: Account) -> set[int]:
    """What the broker has acknowledged, but for what came before there was a session to keep it for."""
    kept = account.acknowledged.keys() - account.unheard
    assert max(account.unheard, default=-1) < min(kept)
    return kept


def publish_to_a_crashing_listener(broker: FarmMosquitto, recording: Recording, kills: int) -> Account:
    """Publish while a listener is killed so many times, and let the last one catch up."""
    moments = random.Random(7)
    with devices(broker, rate=RATE).running() as publisher, ExitStack() as last_one:
        for kill in range(kills):
            with plantops_to_file(broker, recording.path) as process:
                size = recording.size
                assert until(lambda size=size: recording.size > size, seconds=30)  # type: ignore[misc]  # bound early
                publisher.wait_for(kill * MANY)
                until(lambda: False, seconds=moments.uniform(0, 0.3))
                process.kill()
                process.wait()
        last_one.enter_context(plantops_to_file(broker, recording.path))
        publisher.wait_for(kills * MANY + len(publisher.account.unheard))
        account = publisher.finish()
        assert not account.last_of_connection
        until(lambda: not recording.missing(kept_by(account)), seconds=CATCH_UP_SECONDS, poll_seconds=0.3)
    return account


# The listener is away


def test_what_is_published_while_the_listener_is_away_arrives_in_order(farm: FarmMosquitto) -> None:
    devices(farm, 10).run()
    with start(*DURABLE, env=farm.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        before = listening.finish(signal.SIGTERM)
    devices(farm, 3_000, first=10).run()
    with start(*DURABLE, "-C", "3000", env=farm.environment) as listening:
        after = listening.finish()
    assert (before.stdout, before.code, after.code) == (b"", 0, 0)
    assert numbers_of(after.stdout) == list(range(10, 3_010))


def test_what_a_pipe_has_swallowed_counts_as_written_although_nobody_read_it(farm: FarmMosquitto) -> None:
    with start(*DURABLE, env=farm.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        devices(farm, 100).run()
        line = os.read(listening.stdout.descriptor, 1 << 16).splitlines()[0]
        devices(farm, 100, first=100).run()
        wait_until_a_pipe_holds(listening, 100 * len(line))
        devices(farm, 1, first=200).run()  # it is written when all before it is acknowledged
        wait_until_a_pipe_holds(listening, 101 * len(line))
        listening.stdout.close()
        listening.process.wait(timeout=PATIENCE_SECONDS)
    devices(farm, 1, first=201).run()
    with start(*DURABLE, "-C", "1", env=farm.environment) as listening:
        after = listening.finish()
    assert numbers_of(after.stdout)[0] >= 200


def test_of_what_nobody_has_asked_for_the_broker_keeps_the_rest(farm: FarmMosquitto) -> None:
    with start(*DURABLE, "-C", "1", env=farm.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        devices(farm, 100).run()
        before = listening.finish()
    with start(*DURABLE, "-C", "99", env=farm.environment) as listening:
        after = listening.finish()
    assert numbers_of(before.stdout + after.stdout) == list(range(100))


def wait_until_a_pipe_holds(listening: Running, size: int) -> None:
    assert until(lambda: bytes_unread(listening.stdout.descriptor) >= size, seconds=PATIENCE_SECONDS)


@pytest.mark.parametrize("is_quiet", [False, True], ids=["loud", "quiet"])
def test_a_session_that_the_broker_has_lost_is_warned_of(farm: FarmMosquitto, *, is_quiet: bool) -> None:
    with start(*DURABLE, *["--quiet"] * is_quiet, env=farm.environment) as listening:
        wait_until_it_is_subscribed(farm, listening)
        farm.kill()
        (farm.folder / "mosquitto.db").unlink()
        farm.start()
        listening.stderr.wait_for(SESSION_LOST)
        wait_until_it_is_subscribed(farm, listening)
        done = listening.finish(signal.SIGTERM)
    assert done.code == 0


def test_a_session_that_the_broker_has_kept_is_no_cause_for_a_warning(farm: FarmMosquitto) -> None:
    with start(*DURABLE, env=farm.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        devices(farm, 1).run()  # it is the first change after the subscription that makes Mosquitto save
        farm.kill()
        farm.start()
        listening.stderr.wait_for("resumed after")
        done = listening.finish(signal.SIGTERM)
    assert "has forgotten" not in done.stderr
    assert "warning" not in done.stderr


def test_the_first_connection_tells_whether_the_broker_had_kept_the_session(farm: FarmMosquitto) -> None:
    for expected, other in ((NEW_SESSION, "session resumed"), ("session resumed", NEW_SESSION)):
        with start(*DURABLE, env=farm.environment) as listening:
            listening.stderr.wait_for(expected)
            done = listening.finish(signal.SIGTERM)
        assert other not in done.stderr
        assert "outage" not in done.stderr


def test_a_session_ends_by_session_expiry(farm: FarmMosquitto) -> None:
    with start(*DURABLE, "--session-expiry", "1", env=farm.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        listening.finish(signal.SIGTERM)
    log = farm.folder / "log"
    assert until(lambda: f"plantops-{NAME}" in log.read_text().partition("Expiring")[2], seconds=20)
    assert devices(farm, 1).run().unheard == {0}


def test_a_session_expiry_without_a_durable_session_is_refused(farm: FarmMosquitto) -> None:
    done = run("listen", "--session-expiry", "60", env=farm.environment)
    assert (done.code, done.stdout) == (2, b"")
    assert "--durable NAME" in done.stderr


def wait_until_it_is_subscribed(broker: FarmMosquitto, listening: Running) -> None:
    first = 1
    while devices(broker, 1, first=first).run().unheard:
        first += 1
    listening.stdout.wait_for(f'"n":{first}')


def numbers_of(lines: bytes) -> list[int]:
    path = Path(f"lines-{os.getpid()}")
    path.write_bytes(lines)
    return Recording(path).numbers
