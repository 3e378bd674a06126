"""The examples, run as they stand but for paths, port and user."""

import asyncio
from runpy import run_path

import pytest

from plantops_cli.cli.shared.exits import Exit
from plantops_cli.mosquitto.broker.proof import LoginAnswer, log_in
from plantops_cli.mosquitto.files.conf_file import read_config
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.testing import testing
from tests.support.brokers import PASSWORD, USERNAME
from tests.support.example_conf import DEVICES, EXAMPLES, farm_mosquitto
from tests.support.plantops import run
from tests.support.reliable_publisher import ReliablePublisher
from tests.support.subscribing import subscribing, take

AWAY = 1_000


def test_the_configuration_lets_the_backend_in_and_nobody_else() -> None:
    with farm_mosquitto() as broker:
        login = ConnectOptions(host="127.0.0.1", port=broker.port, username=USERNAME, password=PASSWORD)
        nobody = ConnectOptions(host="127.0.0.1", port=broker.port)
        assert asyncio.run(log_in(login)) is LoginAnswer.ACCEPTED
        assert asyncio.run(log_in(nobody)) is LoginAnswer.REFUSED


async def test_the_application_hears_a_device_without_any_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", PASSWORD)
    example = run_path(str(EXAMPLES / "fastapi_app.py"))
    with testing(example["subscriber"]) as broker:
        async with example["app"].router.lifespan_context(example["app"]):
            await broker.deliver("devices/basil/telemetry", {"soil_moisture": 41.5})
            await broker.deliver("devices/basil/heartbeat")
            told = await example["devices"]()
    assert told == {"basil": {"state": "online", "reading": {"soil_moisture": 41.5}}}


async def test_with_the_configuration_a_crash_of_the_broker_costs_one_message_at_most() -> None:
    with farm_mosquitto() as broker:
        async with subscribing(broker, durable="shed") as subscriber:
            await subscriber.subscribe("devices/+/telemetry")
            await subscriber.connect()
        publisher = ReliablePublisher(broker.port, login=DEVICES, count=AWAY)
        account = await asyncio.to_thread(publisher.run)
        assert not account.unheard
        broker.kill()
        broker.start()
        async with subscribing(broker, durable="shed") as subscriber:
            await subscriber.subscribe("devices/+/telemetry")
            kept = [message.text for message in await take(subscriber, AWAY - 1)]
    assert kept[: AWAY - 1] == [f'{{"n":{number}}}' for number in range(AWAY - 1)]


def test_the_configuration_is_one_that_provision_user_finds_its_way_in() -> None:
    config = read_config(EXAMPLES / "mosquitto.conf")
    assert config.password_files == ("/etc/mosquitto/passwords",)
    assert config.acl_files == ("/etc/mosquitto/acl",)
    assert config.pid_file == "/run/mosquitto/mosquitto.pid"
    assert [listener.port for listener in config.login_listeners] == [1883]


def test_the_unit_runs_a_command_line_that_there_is() -> None:
    text = (EXAMPLES / "plantops-listen@.service").read_text().replace("\\\n", " ")
    options = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and line[0].isalpha())
    program, *arguments = options["ExecStart"].split()
    assert program.endswith("/plantops")
    refused = run(*arguments, "--kind", "none of them", env={"MQTT_BACKEND_PASSWORD": "x"})
    assert "'--kind'" in refused.errors[0]  # the only thing that is wrong with it
    # refused credentials are: with what has become of the password meanwhile
    healed_by_no_restart = {Exit.USAGE, Exit.SUBSCRIPTION, Exit.FILE}
    assert set(map(int, options["RestartPreventExitStatus"].split())) == healed_by_no_restart
    assert "MQTT_BACKEND_PASSWORD_FILE" in text
