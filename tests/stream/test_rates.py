"""What strangers cause is told a few times, and counted beyond."""

import asyncio
import logging
import time

import pytest

from plantops_cli.errors import ConnectionLostError
from plantops_cli.stream.delivery import Delivery
from plantops_cli.stream.exactly_once import ExactlyOnce
from plantops_cli.stream.inbox import Inbox
from plantops_cli.stream.packets import Packet
from plantops_cli.stream.rates import Rate, Rates
from tests.support.handling import engine, packet
from tests.support.plantops import run
from tests.support.scripted_broker import ScriptedBroker, publish, serving
from tests.support.subscribing import eventually

LOGGER = logging.getLogger("plantops.stream")
BAD: Packet = (0x30, b"a/+", 0, b"", b"{}")


def test_what_was_not_told_is_told_of_later(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: moment)
    rate = Rate()
    assert [rate.ask() for _ in range(12)] == [""] * 10 + [None] * 2
    moment += 10
    assert [rate.ask(), rate.ask()] == [" (2 more like it were not logged)", ""]


def test_each_kind_has_a_rate_of_its_own() -> None:
    rates = Rates(LOGGER)
    assert [rates.ask("slips") for _ in range(11)][-1] is None
    assert rates.ask("falls") == ""


async def test_how_many_were_left_out_is_told_although_no_other_follows(caplog: pytest.LogCaptureFixture) -> None:
    rates = Rates(LOGGER)
    for _ in range(1_510):
        rates.ask("slips")
    rates.tell_left_out()
    rates.tell_left_out()
    assert caplog.messages == ["not logged: 1,500 more slips"]


async def test_it_is_told_in_its_time_although_nobody_asks(caplog: pytest.LogCaptureFixture) -> None:
    rates = Rates(LOGGER, patience_seconds=0.01)
    for _ in range(2):
        for _ in range(15):
            rates.ask("slips")
        await eventually(lambda: caplog.messages)
        assert caplog.messages[0].endswith("more slips")
        caplog.clear()


async def test_a_flood_of_topics_that_mqtt_forbids_makes_few_lines_and_each_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    delivery = Delivery(Inbox(1_000_000), ExactlyOnce(1_000_000), lambda _: None)
    for _ in range(1_000):
        delivery.take([BAD] * 100, 1_000)
    delivery.end(ConnectionLostError("gone", endpoint="here"))
    assert delivery.invalid == 100_000
    assert len(caplog.messages) == 11
    assert caplog.messages[-1] == "not logged: 99,990 more messages passed over"


async def test_a_handler_that_fails_on_whatever_comes_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: object) -> None:
        raise ValueError("oops")

    async with engine() as made:
        made.on("#", fail, blocking=False)
        await made.take(*(packet("a" * 60_000, mid=mid) for mid in range(1, 101)))
        await eventually(lambda: len(made.connection.acknowledged) == 100)
    assert len(caplog.records) == 10
    assert max(map(len, caplog.messages)) < 1_000


async def test_a_stranger_who_floods_a_command_with_bad_topics_gets_little_on_stderr() -> None:
    flood = publish(b"a/+" * 20) * 50_000 + publish(b"devices/a/telemetry")
    async with serving(ScriptedBroker(after_suback=flood)) as broker:
        arguments = ("listen", "-h", "127.0.0.1", "-p", str(broker.port), "-C", "1", "-W", "60")
        done = await asyncio.to_thread(run, *arguments, env={"MQTT_BACKEND_PASSWORD": "secret"})
    assert (done.code, len(done.lines)) == (0, 1), done.stderr
    assert len(done.stderr) < 20_000
    assert "more messages passed over" in done.stderr
    assert "50,000 packets without a valid topic passed over" in done.stderr
