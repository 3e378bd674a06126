"""Flags that check refuses: a monitor has to read of it where it reads everything."""

import json

import pytest

from tests.support.plantops import run

REFUSED = ("check", "--within", "never")


@pytest.mark.parametrize(
    ("form", "begin"),
    [("nagios", b"PLANTOPS UNKNOWN - --within 'never'"), ("text", b"UNKNOWN: "), ("prometheus", b"# HELP")],
)
def test_it_says_so_on_standard_output_in_the_form_that_is_asked_for(form: str, begin: bytes) -> None:
    done = run(*REFUSED, "-o", form)
    assert (done.code, done.stderr) == (3, "")
    assert done.stdout.startswith(begin)


def test_in_json_it_is_a_document() -> None:
    document = json.loads(run(*REFUSED, "-o", "json").stdout)
    assert (document["status"], document["code"], document["devices"]) == ("unknown", 3, [])
    assert "--within 'never'" in document["reasons"][0]
