"""Counters and outages."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from plantops_cli.errors import ConnectionLostError
from plantops_cli.messages import Message, now
from plantops_cli.stream.account import Account
from plantops_cli.stream.batch import Batch, Read
from plantops_cli.stream.handling.tally import Tally
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.status import Connected, Lost, Resumed, Retrying, SessionBegun, SessionLost, State, Status
from tests.support.scripted_broker import (
    ScriptedBroker,
    publish,
    serving,
)
from tests.support.subscribing import (
    Recorder,
    eventually,
    subscribing,
)

KICK = b"\xe0\x02\x8b\x00"


async def test_a_forbidden_topic_is_counted_in_the_health_and_stops_nothing() -> None:
    handler = Recorder()
    broker = ScriptedBroker(after_suback=publish(b"\xff", qos=1, mid=1) + publish(b"a/+") + publish(b"good"))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("#", handler)
        await subscriber.start()
        await eventually(lambda: handler.topics == ["good"])
        await eventually(lambda: broker.acknowledged == [1])
        assert subscriber.health.invalid == 2
    assert subscriber.health.invalid == 2


async def test_the_health_tells_when_the_newest_message_was_read_as_the_message_does() -> None:
    messages: list[Message] = []
    broker = ScriptedBroker(after_suback=publish(b"a") + publish(b"b"))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("#", messages.append)
        assert subscriber.health.last_message_at is None
        began = now()
        await subscriber.start()
        await eventually(lambda: len(messages) == 2)
        assert subscriber.health.last_message_at == messages[-1].received_at
        assert began - timedelta(milliseconds=1) < messages[-1].received_at <= now()


async def test_an_outage_is_reported_and_kept_with_begin_end_and_reason() -> None:
    said: list[Status] = []
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker, on_status=said.append) as subscriber:
        began_at = datetime.now(UTC)
        await subscriber.connect()
        await subscriber.start()
        await broker.send(KICK)
        await eventually(lambda: subscriber.health.connection_count == 2)
        health = subscriber.health
    (outage,) = health.outages
    assert outage.ended_at
    assert began_at <= outage.began_at <= outage.ended_at <= datetime.now(UTC)
    assert "0x8b, Server shutting down" in outage.reason
    assert health.outage_count == 1
    steps = [type(status) for status in said if isinstance(status, (Lost, Retrying, Connected, Resumed))]
    assert steps == [Connected, Lost, Retrying, Connected, Resumed]


async def test_an_outage_that_lasts_has_no_end() -> None:
    broker = ScriptedBroker(answers=[0, 0x88])
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.connect()
        await subscriber.start()
        broker.hang_up()
        await eventually(lambda: subscriber.health.state is State.WAITING)
        assert [outage.ended_at for outage in subscriber.health.outages] == [None]
        assert subscriber.health.connected_since is None
        assert subscriber.client is None


async def test_an_outage_begins_when_the_connection_ends_however_long_a_handler_then_takes() -> None:
    may_end = asyncio.Event()
    broker = ScriptedBroker(after_suback=publish(b"a"))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", lambda _: may_end.wait())
        await subscriber.start()
        await eventually(lambda: subscriber.health.received)
        broker.hang_up()
        await eventually(lambda: subscriber.client is None)
        ended_by = now()
        await asyncio.sleep(0.05)
        may_end.set()
        await eventually(lambda: subscriber.health.connection_count == 2)
    (outage,) = subscriber.health.outages
    assert outage.began_at <= ended_by


async def test_an_outage_begins_with_an_end_that_lies_unread_behind_messages() -> None:
    may_end = asyncio.Event()
    broker = ScriptedBroker(after_suback=publish(b"a", b"x" * 1024) * 180)
    async with serving(broker), subscribing(broker, max_pending_bytes=128 * 1024) as subscriber:
        subscriber.register_handler("a", lambda _: may_end.wait())
        await subscriber.start()
        await eventually(lambda: subscriber.health.received)
        broker.hang_up()
        hung_up_at = now()
        await asyncio.sleep(2.5)  # longer than from one look at the connection to the next
        assert subscriber.health.outage_count == 0
        may_end.set()
        await eventually(lambda: subscriber.health.connection_count == 2)
    assert subscriber.health.outages[0].began_at <= hung_up_at + timedelta(seconds=1)


async def test_the_end_of_an_outage_is_never_before_its_beginning_nor_that_of_the_next_before_it() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.start()
        for count in range(1, 4):
            await eventually(lambda count=count: subscriber.health.connection_count == count)  # type: ignore[misc]  # bound early
            broker.hang_up()
        await eventually(lambda: subscriber.health.connection_count == 4)
        moments = [moment for outage in subscriber.health.outages for moment in (outage.began_at, outage.ended_at)]
    assert len(moments) == 6
    assert all(moments)
    assert moments == sorted(moments, key=lambda moment: moment or now())


async def test_an_outage_ends_with_the_next_connection_whoever_makes_it() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.connect()
        await subscriber.start()
        broker.hang_up()
        await eventually(lambda: subscriber.health.outage_count)
        await subscriber.disconnect()
        await subscriber.connect()
        assert all(outage.ended_at for outage in subscriber.health.outages)


# The account by itself


LOST = ConnectionLostError("h:1883: connection lost", endpoint="h:1883")


@dataclass
class Counts:
    """What a session has counted."""

    invalid: int = 0
    paused_seconds: float = 0.0


def test_what_a_session_counts_is_seen_while_it_is_up_and_kept_when_it_is_over() -> None:
    account = Account()
    account.connected()
    counts = Counts(invalid=2, paused_seconds=3.0)
    tally = Tally()
    tally.failures = 1
    health = account.health(counts, tally)
    assert (health.invalid, health.paused_seconds, health.handler_errors) == (2, 3.0, 1)
    assert (health.state, bool(health.connected_since)) == (State.CONNECTED, True)
    account.closed(counts)
    after = account.health(None, tally)
    assert (after.invalid, after.paused_seconds, after.connected_since) == (2, 3.0, None)
    assert account.health(Counts(invalid=1), tally).invalid == 3


@pytest.mark.parametrize("is_resumed", [False, True])
def test_an_outage_ends_with_what_the_broker_has_kept_of_it(is_resumed: bool) -> None:
    account = Account()
    assert account.close_outage(is_resumed=is_resumed) is None
    account.lost(LOST, now() - timedelta(seconds=5))
    assert account.is_in_outage
    resumed = account.close_outage(is_resumed=is_resumed)
    assert resumed is not None
    assert (round(resumed.outage_seconds), resumed.is_session_kept) == (5, is_resumed)
    assert not account.is_in_outage
    (outage,) = account.health(None, Tally()).outages
    assert (outage.reason, outage.is_bridged) == (str(LOST), is_resumed)


def test_an_outage_in_which_the_time_of_day_was_set_is_told_as_long_as_it_was() -> None:
    seconds_since_boot = 10_000.0
    account = Account(clock=lambda: seconds_since_boot)
    account.lost(LOST, now())
    seconds_since_boot += 3600  # while the time of day was set back by an hour
    resumed = account.close_outage(is_resumed=False)
    (outage,) = account.health(None, Tally()).outages
    assert resumed
    assert outage.ended_at
    assert abs(now() - outage.ended_at) < timedelta(minutes=1)
    assert outage.ended_at - outage.began_at == timedelta(seconds=resumed.outage_seconds)


def test_of_many_outages_the_latest_hundred_are_kept_and_all_are_counted() -> None:
    account = Account()
    began_at = now()
    for number in range(150):
        account.lost(LOST, began_at + timedelta(seconds=number))
    health = account.health(None, Tally())
    assert (health.outage_count, len(health.outages)) == (150, 100)
    assert health.outages[0].began_at == began_at + timedelta(seconds=50)


def test_a_durable_session_is_begun_at_first_and_lost_when_it_is_gone_later() -> None:
    account, options = Account(is_durable=True), ConnectOptions(host="h", client_id="plantops-one")
    account.connected()
    assert account.look_at_session(options, is_resumed=False) == SessionBegun("h:1883", "plantops-one")
    account.connected()
    assert account.look_at_session(options, is_resumed=True) is None
    account.connected()
    assert account.look_at_session(options, is_resumed=False) == SessionLost("h:1883", "plantops-one")
    assert account.health(None, Tally()).lost_sessions == 1


def test_of_a_session_that_is_not_durable_nothing_is_told() -> None:
    account = Account()
    account.connected()
    assert account.look_at_session(ConnectOptions(host="h"), is_resumed=False) is None


@pytest.mark.parametrize("is_durable", [False, True])
def test_what_a_durable_session_cannot_keep_is_said_once(
    is_durable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    account = Account(is_durable=is_durable)
    batch = Batch([Read(0, [(0x30, b"a", 0, b"", b"")])])
    for _ in range(2):
        account.count(batch)
        account.note_qos_0("the broker granted QoS 0 to 'a'")
    assert caplog.text.count("nothing of QoS 0 is kept") == is_durable
    assert account.health(None, Tally()).received == 2


def test_a_wanted_end_is_no_failure_and_a_failure_stays_one() -> None:
    account = Account()
    account.connected()
    account.disconnected()
    assert account.health(None, Tally()).state is State.DISCONNECTED
    account.state = State.FAILED
    account.disconnected()
    assert account.health(None, Tally()).state is State.FAILED
