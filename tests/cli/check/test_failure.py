"""What check answers when it could not even begin."""

import json

import pytest

from plantops_cli.cli.check.failure import answer_failure

SAID = "no \x1b[2J | option"


@pytest.mark.parametrize(
    ("arguments", "begin"),
    [
        (["check"], "PLANTOPS UNKNOWN - no \\x1b[2J / option\n"),
        (["check", "-o", "nagios"], "PLANTOPS UNKNOWN - "),
        (["check", "-o"], "PLANTOPS UNKNOWN - "),
        (["check", "--device", "json"], "PLANTOPS UNKNOWN - "),
        (["check", "-o", "text"], "UNKNOWN: no look\n  no \\x1b[2J | option\n"),
        (["check", "--output=prometheus"], "# HELP plantops_check_status "),
    ],
)
def test_it_is_unknown_in_the_form_that_was_asked_for(
    arguments: list[str], begin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer_failure(SAID, arguments) == 3
    assert capsys.readouterr().out.startswith(begin)


def test_in_json_it_is_the_document_of_a_look_that_was_none(capsys: pytest.CaptureFixture[str]) -> None:
    answer_failure(SAID, ["check", "-o", "json"])
    document = json.loads(capsys.readouterr().out)
    begin = {"status": "unknown", "code": 3, "reasons": [SAID], "notes": []}
    assert document == {**begin, "summary": None, "devices": []}


def test_in_the_format_of_prometheus_it_is_the_status_alone(capsys: pytest.CaptureFixture[str]) -> None:
    answer_failure(SAID, ["check", "-o", "prometheus"])
    samples = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert samples == ["plantops_check_status 3"]
