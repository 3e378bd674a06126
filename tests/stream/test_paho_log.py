"""What paho writes into the log."""

import logging
from dataclasses import replace

import pytest

from plantops_cli.errors import CredentialsRefusedError
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.paho_log import PahoLog
from plantops_cli.stream.session import open_session
from tests.support.scripted_broker import ScriptedBroker, connack, properties_of, serving


def test_a_line_is_written_as_by_a_logger_but_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "plantops.paho")
    log = PahoLog([None, b"hunter 2"])
    log.log(logging.DEBUG, "Received %s of %d", "hunter 2 and hunter%202", 3)
    log.log(logging.DEBUG, "100 % sure")
    assert caplog.messages == ["Received ... and ... of 3", "100 % sure"]


@pytest.mark.parametrize(
    ("username", "password"), [("bob", "hunter2-secret"), ("hunter2-secret", None)], ids=["password", "token"]
)
async def test_a_broker_that_repeats_a_secret_gets_it_into_no_log(
    username: str, password: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = properties_of(ReasonString="not hunter2-secret")
    async with serving(ScriptedBroker(answers=[connack(0x87, version=5, properties=said)])) as broker:
        at = ConnectOptions(host="127.0.0.1", port=broker.port, mqtt_version=MQTTVersion.V5)
        options = replace(at, username=username, password=password)
        with pytest.raises(CredentialsRefusedError):
            await open_session(options)
    assert "Received CONNACK" in caplog.text
    assert "hunter2-secret" not in caplog.text
