"""Words that several commands use."""

import pytest

from plantops_cli.cli.shared.wording import counted, never_connected


@pytest.mark.parametrize(("number", "words"), [(0, "0 outages"), (1, "1 outage"), (1_000, "1,000 outages")])
def test_a_number_goes_with_its_noun(number: int, words: str) -> None:
    assert counted(number, "outage") == words


def test_who_never_connected_says_what_was_waited_for_and_how_long() -> None:
    said = never_connected("localhost:1883: nothing listens there", elapsed_seconds=0.52)
    assert said == "localhost:1883: nothing listens there; stopped after 0.5 s without a connection"
