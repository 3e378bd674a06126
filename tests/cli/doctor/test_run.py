"""What doctor says of flags and settings alone, without a broker."""

import json

import pytest

from plantops_cli.cli.doctor.doctor_flags import DoctorFlags
from plantops_cli.cli.doctor.run import examine
from plantops_cli.cli.shared.exits import Exit
from plantops_cli.cli.shared.flags.connect import BystanderConnectionFlags
from plantops_cli.cli.shared.flags.display import DocumentChoice

SECRET = "not to be seen"


async def examined(
    connection: BystanderConnectionFlags,
    *filters: str,
    qos: int = 1,
    output: DocumentChoice = DocumentChoice.JSON,
) -> Exit:
    flags = DoctorFlags(filters=filters, connection=connection, qos=qos, wait_seconds=0.1, output=output)
    return await examine(flags)


@pytest.mark.parametrize(
    ("flags", "filters", "qos", "said"),
    [
        (BystanderConnectionFlags(anonymous=True, username="alice"), (), 1, "--anonymous"),
        (BystanderConnectionFlags(url="mqtt://a", host="b"), (), 1, "--url and --host"),
        (BystanderConnectionFlags(anonymous=True), ("a/#/b",), 1, "a/#/b"),
        (BystanderConnectionFlags(anonymous=True), (), 3, "QoS 3"),
    ],
    ids=["anonymous", "url", "filter", "qos"],
)
async def test_flags_that_make_no_sense_are_a_step_that_failed(
    capsys: pytest.CaptureFixture[str],
    flags: BystanderConnectionFlags,
    filters: tuple[str, ...],
    qos: int,
    said: str,
) -> None:
    assert await examined(flags, *filters, qos=qos) is Exit.USAGE
    document = json.loads(capsys.readouterr().out)
    [step] = document["steps"]
    assert (document["ok"], step["name"], step["status"]) == (False, "settings", "failed")
    assert said in step["details"][0]


async def test_a_broker_that_is_not_there_is_named_and_of_the_password_only_that_there_is_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", SECRET)
    flags = BystanderConnectionFlags(url="mqtt://alice@127.0.0.1:1")
    assert await examined(flags, output=DocumentChoice.TEXT) is Exit.UNREACHABLE
    said = capsys.readouterr().out
    assert "MQTT_HOST=127.0.0.1 (--url)" in said
    assert "MQTT_BACKEND_USERNAME=alice (--url)" in said
    assert "password: given (MQTT_BACKEND_PASSWORD, environment)" in said
    assert SECRET not in said
