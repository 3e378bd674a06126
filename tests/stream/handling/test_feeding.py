"""The background task that feeds handlers, from its start to its end."""

import asyncio
import logging

import pytest

from plantops_cli.errors import BrokerError, StateError
from plantops_cli.messages import Message
from plantops_cli.stream.handling import feeding as module
from plantops_cli.stream.subscriber import MQTTSubscriber
from plantops_cli.testing import testing


async def test_the_task_has_the_name_of_what_it_listens_to() -> None:
    mqtt = MQTTSubscriber("broker.invalid", 1884)
    async with testing(mqtt):
        assert "plantops-subscriber broker.invalid:1884" in {task.get_name() for task in asyncio.all_tasks()}


async def test_what_was_started_is_not_started_again_before_it_has_ended() -> None:
    mqtt = MQTTSubscriber("broker.invalid")
    with testing(mqtt):
        for _ in range(2):
            await mqtt.start()
            with pytest.raises(StateError, match="started already"):
                await mqtt.start()
            await mqtt.disconnect()


async def test_whoever_waits_hears_what_has_ended_it_and_the_log_too(caplog: pytest.LogCaptureFixture) -> None:
    mqtt = MQTTSubscriber("broker.invalid", username="alice")
    async with testing(mqtt) as broker:
        broker.refuse_login()
        broker.lose_connection()
        with pytest.raises(BrokerError, match="alice"):
            await mqtt.wait()
    assert "stopped listening" in caplog.text


async def test_stop_lets_everything_be_handled_that_has_arrived() -> None:
    handled = list[str]()
    mqtt = MQTTSubscriber("broker.invalid")

    @mqtt.on("#")
    async def handle(message: Message) -> None:
        await asyncio.sleep(0.01)
        handled.append(message.topic)

    async with testing(mqtt) as broker:
        delivering = [asyncio.create_task(broker.deliver(str(number), b"")) for number in range(10)]
        await asyncio.sleep(0.02)
        mqtt.stop()
        await mqtt.wait()
        assert handled == [str(number) for number in range(10)]
        await asyncio.gather(*delivering)


async def test_a_handler_that_does_not_end_is_not_waited_for_without_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRAIN_SECONDS", 0.1)
    caplog.set_level(logging.WARNING)
    begun = asyncio.Event()
    mqtt = MQTTSubscriber("broker.invalid")

    @mqtt.on("#")
    async def handle(message: Message) -> None:
        begun.set()
        await asyncio.sleep(3_600)

    async with testing(mqtt) as broker:
        delivering = asyncio.create_task(broker.deliver("a", b"", qos=1))
        await begun.wait()
        await mqtt.disconnect()
        assert not (await delivering).is_acknowledged
