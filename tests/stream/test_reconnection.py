"""What heals and what does not."""

import asyncio

import pytest

from plantops_cli.errors import (
    ConfigError,
    ConnectionLostError,
    CredentialsRefusedError,
    SessionTakenOverError,
)
from plantops_cli.messages import Message
from plantops_cli.stream.backoff import STABLE_SECONDS, Backoff
from plantops_cli.stream.reconnection import (
    KICKS_OF_A_TAKEOVER,
    KICKS_OF_A_TAKEOVER_IF_DURABLE,
    LOGIN_DELAY_SECONDS,
    LOGIN_PATIENCE_SECONDS,
    MOST_SECONDS,
    AfterLoss,
    Leeway,
    Reconnection,
    choose_patience,
)
from plantops_cli.stream.status import State
from tests.support.scripted_broker import (
    SUBSCRIBE,
    ScriptedBroker,
    publish,
    serving,
)
from tests.support.subscribing import (
    SECRET,
    Recorder,
    eventually,
    subscribing,
)

TAKEN_OVER = b"\xe0\x02\x8e\x00"


async def test_start_goes_on_after_a_busy_broker() -> None:
    broker = ScriptedBroker(answers=[0x88, 0])
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.start()
        await eventually(lambda: subscriber.health.state is State.CONNECTED)


@pytest.mark.parametrize("code", [0x86, 0x87])
async def test_credentials_refused_at_the_start_end_it_after_one_try(
    code: int, caplog: pytest.LogCaptureFixture
) -> None:
    broker = ScriptedBroker(answers=[code])
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.start()
        with pytest.raises(CredentialsRefusedError, match="'alice'"):
            await subscriber.wait()
        assert broker.connection_count == 1
        assert subscriber.health.state is State.FAILED
    assert SECRET not in caplog.text


async def test_credentials_refused_on_a_reconnection_end_it() -> None:
    broker = ScriptedBroker(answers=[0, 0x87])
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.connect()
        await subscriber.start()
        broker.hang_up()
        with pytest.raises(CredentialsRefusedError):
            await subscriber.wait()
        assert broker.connection_count == 2


async def test_a_malformed_packet_is_answered_by_a_new_connection(caplog: pytest.LogCaptureFixture) -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.connect()
        await subscriber.start()
        await broker.send(b"\x36\x06\x00\x01a\x00\x01\x00")
        await eventually(lambda: subscriber.health.connection_count == 2)
    assert caplog.text.count("the broker sent a malformed packet") == 1
    assert "Traceback" not in caplog.text


async def test_a_session_taken_over_ends_it_with_the_cure() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker, client_id="mine") as subscriber:
        await subscriber.connect()
        await subscriber.start()
        await broker.send(TAKEN_OVER)
        with pytest.raises(SessionTakenOverError) as caught:
            await subscriber.wait()
    assert "client_id=ID" in str(caught.value.hint)
    assert broker.connection_count == 1


async def kicked_after_each_connack(broker: ScriptedBroker, count: int) -> None:
    for number in range(1, count + 1):
        await broker.wait_for(SUBSCRIBE, number)
        await asyncio.sleep(0.02)
        broker.hang_up()


async def test_three_kicks_in_a_row_mean_that_a_client_id_of_ones_own_is_taken() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker, client_id="mine") as subscriber:
        subscriber.register_handler("a", Recorder())
        await subscriber.start()
        await kicked_after_each_connack(broker, 3)
        with pytest.raises(SessionTakenOverError):
            await subscriber.wait()
        assert subscriber.health.outage_count == 3


async def test_a_kick_is_one_however_long_a_handler_then_takes() -> None:
    broker = ScriptedBroker(after_suback=publish(b"a"))
    async with serving(broker), subscribing(broker, client_id="mine") as subscriber:
        subscriber._lifeline.reconnection = Reconnection(has_own_client_id=True, stable_seconds=1.0)
        subscriber.register_handler("a", lambda _: asyncio.sleep(1.1))
        await subscriber.start()
        await kicked_after_each_connack(broker, 3)
        with pytest.raises(SessionTakenOverError):
            await subscriber.wait()


async def test_kicks_of_a_random_client_id_are_no_takeover() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", Recorder())
        await subscriber.start()
        await kicked_after_each_connack(broker, 3)
        await eventually(lambda: subscriber.health.connection_count == 4)


@pytest.mark.parametrize("malformed", [b"\x36\x06\x00\x01a\x00\x01\x00", b"\x00\x00"], ids=["by us", "by paho"])
async def test_connections_that_were_given_up_for_malformed_packets_are_no_takeover(malformed: bytes) -> None:
    broker = ScriptedBroker(after_suback=malformed)
    async with serving(broker), subscribing(broker, client_id="mine") as subscriber:
        subscriber.register_handler("a", Recorder())
        await subscriber.start()
        await eventually(lambda: subscriber.health.connection_count == 4)


async def test_connections_that_were_given_up_to_keep_a_message_are_no_takeover() -> None:
    def fail(_: Message) -> None:
        raise RuntimeError("the database is down")

    broker = ScriptedBroker(after_suback=publish(b"a", qos=1))
    async with serving(broker), subscribing(broker, client_id="mine", on_error="keep") as subscriber:
        subscriber.register_handler("a", fail)
        await subscriber.start()
        await eventually(lambda: subscriber.health.connection_count == 4)


# The decision, without a connection


LOST = ConnectionLostError("h:1883: connection lost", endpoint="h:1883")
REFUSED = CredentialsRefusedError("h:1883: refused", endpoint="h:1883")


def kicked(reconnection: Reconnection, times: int, *, lasted_seconds: float = 0.1) -> list[AfterLoss]:
    return [reconnection.after_loss(LOST, lasted_seconds=lasted_seconds, is_given_up=False) for _ in range(times)]


def test_a_lost_connection_heals_and_what_the_broker_refuses_does_not() -> None:
    reconnection = Reconnection()
    assert reconnection.after_loss(LOST, lasted_seconds=60, is_given_up=False) == AfterLoss(heals=True)
    assert reconnection.after_loss(REFUSED, lasted_seconds=60, is_given_up=False) == AfterLoss(heals=False)
    assert (reconnection.after_failure(LOST), reconnection.after_failure(REFUSED)) == (True, False)


def test_the_third_kick_of_a_chosen_client_id_is_a_takeover() -> None:
    after = kicked(Reconnection(has_own_client_id=True), KICKS_OF_A_TAKEOVER)
    assert [(one.heals, one.is_taken_over) for one in after] == [(True, False)] * 2 + [(False, True)]


def test_kicks_of_a_durable_session_are_suspicious_once_and_a_takeover_only_after_many() -> None:
    after = kicked(Reconnection(has_own_client_id=True, is_durable=True), KICKS_OF_A_TAKEOVER_IF_DURABLE)
    assert [one.suspicious for one in after if one.suspicious] == [KICKS_OF_A_TAKEOVER]
    assert [one.is_taken_over for one in after] == [False] * (KICKS_OF_A_TAKEOVER_IF_DURABLE - 1) + [True]


def test_a_stable_connection_a_failed_attempt_and_one_that_we_gave_up_end_a_row_of_kicks() -> None:
    reconnection = Reconnection(has_own_client_id=True)
    kicked(reconnection, 2)
    kicked(reconnection, 1, lasted_seconds=STABLE_SECONDS)
    assert all(one.heals for one in kicked(reconnection, 2))
    reconnection.after_failure(LOST)
    assert all(one.heals for one in kicked(reconnection, 2))
    assert reconnection.after_loss(LOST, lasted_seconds=0, is_given_up=True).heals
    assert all(one.heals for one in kicked(reconnection, 2))


def test_delays_grow_with_each_attempt_and_begin_again_after_a_stable_connection() -> None:
    reconnection = Reconnection(backoff=Backoff(uniform=lambda _, high: high))
    assert [reconnection.next_delay() for _ in range(3)] == [0.5, 1, 2]
    kicked(reconnection, 1)
    assert reconnection.next_delay() == 4
    kicked(reconnection, 1, lasted_seconds=STABLE_SECONDS)
    assert reconnection.next_delay() == 0.5


REFUSED = CredentialsRefusedError("refused", endpoint="h:1883")


def was_right(patience_seconds: float) -> Reconnection:
    made = Reconnection(backoff=Backoff(uniform=lambda _, high: high), login_patience_seconds=patience_seconds)
    made.note_connection()
    return made


def test_a_login_that_was_right_is_tried_again_for_a_while() -> None:
    decides = was_right(60)
    assert [decides.after_failure(REFUSED, at_seconds=at) for at in (1000, 1030, 1059.9, 1060)] == [
        True,
        True,
        True,
        False,
    ]


def test_the_while_begins_anew_with_each_login_that_is_right() -> None:
    decides = was_right(60)
    assert decides.after_failure(REFUSED, at_seconds=1000)
    decides.note_connection()
    assert decides.after_failure(REFUSED, at_seconds=2000)
    assert decides.after_failure(REFUSED, at_seconds=2059)


def test_a_login_that_never_was_right_is_final() -> None:
    decides = Reconnection(login_patience_seconds=60)
    assert not decides.after_failure(REFUSED, at_seconds=1000)
    assert not decides.after_failure(REFUSED, at_seconds=1001, is_password_new=True)


def test_a_password_that_was_never_refused_gets_its_try_however_late() -> None:
    decides = was_right(60)
    assert decides.after_failure(REFUSED, at_seconds=1000)
    assert decides.after_failure(REFUSED, at_seconds=5000, is_password_new=True)
    assert not decides.after_failure(REFUSED, at_seconds=5001)


def test_delays_stay_short_while_a_password_changes() -> None:
    decides = was_right(60)
    for _ in range(10):
        decides.after_failure(REFUSED, at_seconds=1000)
        assert decides.next_delay() <= LOGIN_DELAY_SECONDS
    decides.after_failure(REFUSED, at_seconds=1000, is_password_new=True)
    assert decides.next_delay() == 0
    decides.after_failure(ConnectionLostError("gone", endpoint="h:1883"), at_seconds=1000)
    assert decides.next_delay() > LOGIN_DELAY_SECONDS


def test_only_what_may_change_gets_time_to_unless_somebody_says_so() -> None:
    assert choose_patience(None, may_change=False) == 0
    assert choose_patience(None, may_change=True) == LOGIN_PATIENCE_SECONDS == 60
    assert choose_patience(5, may_change=False) == 5
    for wrong in (-1, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="out of range"):
            choose_patience(wrong, may_change=True)


def times_of(seconds: float, count: int) -> list[float]:
    """How long each attempt may take, when each is met with silence."""
    patience, times = Leeway(seconds), []
    for _ in range(count):
        times.append(patience.seconds)
        patience.grow()
    return times


def test_each_silence_gives_the_next_attempt_twice_the_time_up_to_a_minute() -> None:
    assert times_of(30, 4) == [30, 60, 60, 60]
    assert times_of(2, 7) == [2, 4, 8, 16, 32, 60, 60]
    assert times_of(MOST_SECONDS * 2, 3) == [MOST_SECONDS * 2] * 3  # as was asked for


@pytest.mark.parametrize(("asked", "silence"), [(30, 10), (10, 10), (2, 2)])
def test_an_attempt_that_took_as_long_as_a_silence_was_one(asked: float, silence: float) -> None:
    patience = Leeway(asked)
    assert patience.silence_seconds == silence
    patience.grow()
    assert patience.silence_seconds == silence * 2
