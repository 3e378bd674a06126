"""The faults of a file, by how much each of them stops."""

import pytest

from plantops_cli.mosquitto.text.acl import check_acl
from plantops_cli.mosquitto.text.lint import FileFault, Weight
from plantops_cli.mosquitto.text.passwords import check_password_file
from plantops_cli.mosquitto.text.psk import check_psk_file


def test_what_stops_more_brokers_weighs_more() -> None:
    assert sorted(Weight) == [Weight.NOTE, Weight.STOPS_21, Weight.STOPS_ALL]
    assert max(Weight.NOTE, Weight.STOPS_21) is Weight.STOPS_21


def test_a_fault_for_which_a_broker_loses_rules_without_a_word_is_told_apart() -> None:
    silent, loud = check_acl(b"topic read a\0\nbogus\n")
    assert (silent.is_silent, loud.is_silent) == (True, False)


@pytest.mark.parametrize(
    ("faults", "weight"),
    [
        (check_acl(b"topic a\n"), Weight.NOTE),
        (check_password_file(b"alice:plain\n"), Weight.STOPS_21),
        (check_acl(b"user\n"), Weight.STOPS_ALL),
        (check_psk_file(b"a:zz\n"), Weight.STOPS_ALL),
    ],
    ids=["note", "2.1", "acl", "psk"],
)
def test_every_file_of_mosquittos_is_judged_by_the_same_scale(faults: list[FileFault], weight: Weight) -> None:
    assert [(fault.line, fault.weight) for fault in faults] == [(1, weight)]
