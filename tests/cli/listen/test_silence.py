"""What is said when nothing comes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from plantops_cli.cli.listen.silence import SilenceNotice
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.scripted_broker import ScriptedBroker, publish, serving
from tests.support.subscribing import eventually, subscribing

SOON_SECONDS = 0.01
LATER_SECONDS = 3_600


@asynccontextmanager
async def listening(broker: ScriptedBroker) -> AsyncIterator[MQTTSubscriber]:
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", lambda message: None)
        yield subscriber


async def test_a_silence_that_lasts_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    async with listening(ScriptedBroker()) as subscriber:
        notice = SilenceNotice(subscriber, seconds=SOON_SECONDS)
        async with notice.attending():
            await subscriber.connect()
            while not (said := capsys.readouterr().err):
                await asyncio.sleep(SOON_SECONDS)
        notice.say_at_the_end()
    assert said.startswith("plantops: no message in 0.01 s: nobody publishes, or the broker's ACL")
    assert "group" not in said
    assert capsys.readouterr().err == ""


async def test_silence_in_a_group_has_a_cause_more(capsys: pytest.CaptureFixture[str]) -> None:
    async with listening(ScriptedBroker()) as subscriber:
        notice = SilenceNotice(subscriber, has_group=True, seconds=LATER_SECONDS)
        async with notice.attending():
            await subscriber.connect()
        notice.say_at_the_end()
    said = capsys.readouterr().err
    assert said.startswith("plantops: no message at all: nobody publishes")
    assert "does not know shared subscriptions" in said


async def test_who_has_heard_something_is_told_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    async with listening(ScriptedBroker(after_suback=publish(b"a"))) as subscriber:
        notice = SilenceNotice(subscriber, seconds=LATER_SECONDS)
        async with notice.attending():
            await subscriber.connect()
            await subscriber.start()
            await eventually(lambda: subscriber.health.received)
        notice.say_at_the_end()
    assert capsys.readouterr().err == ""


async def test_while_there_is_no_connection_other_things_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    async with listening(ScriptedBroker()) as subscriber:
        notice = SilenceNotice(subscriber, seconds=LATER_SECONDS)
        async with notice.attending():
            await subscriber.connect()
            await subscriber.disconnect()
            notice._look()
    assert capsys.readouterr().err == ""
