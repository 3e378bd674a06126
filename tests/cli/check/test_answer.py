"""What check says of a verdict, and why there was no look, where a monitor reads."""

import json

import pytest

from plantops_cli.cli.check.answer import say_error
from plantops_cli.cli.shared.flags.display import CheckChoice
from plantops_cli.errors import ConfigError, CredentialsRefusedError, PlantopsError

REFUSED = CredentialsRefusedError("refused | by the broker", endpoint="localhost:1883", hint="check them")


@pytest.mark.parametrize(
    ("error", "word", "code"),
    [(ConfigError("no such file", hint="make it"), "UNKNOWN", 3), (REFUSED, "CRITICAL", 2)],
    ids=["unknown", "critical"],
)
def test_what_was_refused_is_critical_and_all_else_unknown(
    capsys: pytest.CaptureFixture[str], error: PlantopsError, word: str, code: int
) -> None:
    assert say_error(error, CheckChoice.NAGIOS) == code
    assert capsys.readouterr().out.startswith(f"PLANTOPS {word} - ")


def test_no_bar_of_an_error_begins_the_performance_data(capsys: pytest.CaptureFixture[str]) -> None:
    say_error(REFUSED, CheckChoice.NAGIOS)
    assert capsys.readouterr().out == "PLANTOPS CRITICAL - refused / by the broker (check them)\n"


def test_a_program_gets_the_reason_in_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    say_error(REFUSED, CheckChoice.JSON)
    document = json.loads(capsys.readouterr().out)
    assert document["reasons"] == ["refused | by the broker (check them)"]
    assert (document["summary"], document["devices"]) == (None, [])
