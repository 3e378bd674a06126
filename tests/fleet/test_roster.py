"""Rosters in all their forms."""

import json

import pytest

from plantops_cli.errors import ConfigError
from plantops_cli.fleet.roster import parse_ids, parse_roster, write_roster


@pytest.mark.parametrize(
    "text",
    [
        "b\na\n",
        "\ufeffb\r\na\r\n",
        "# the greenhouse\n\n  b  \na\nb\n",
        "device_id\nb\na\n",
        'name,device_id\nBasil,b\n"Aloe, old",a\n',
        "name;Device_ID\nBasil;b\nAloe;a\n",
        '["b", "a"]',
        '[{"device_id": "b"}, {"id": "a"}]',
        '{"summary": {}, "devices": [{"device_id": "b", "state": "late"}, {"device_id": "a"}]}',
    ],
)
def test_a_roster_is_lines_csv_or_json(text: str) -> None:
    assert parse_roster(text, name="roster") == ("b", "a")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no device id"),
        ("# nobody\n", "no device id"),
        ("a\nb/c\n", "line 2: 'b/c' is no device id"),
        ("a\n\n+\n", "line 3"),
        ("device_id,name\n,Basil\n", "line 2: ''"),
        ("name,device_id\nBasil\n", "line 2: ''"),
        ("[1]", "entry 1: 1 is no device id"),
        ('[{"name": "a"}]', "entry 1: None"),
        ("[", "roster: "),
        ('{"plants": []}', "without a list"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_roster_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"^roster") as caught:
        parse_roster(text, name="roster")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ids_may_be_given_in_one_flag() -> None:
    assert parse_ids("b, a,b", name="--expect-ids") == ("b", "a")
    with pytest.raises(ConfigError, match="--expect-ids: '' is no device id"):
        parse_ids("a,,b", name="--expect-ids")


def test_what_is_written_is_read_again() -> None:
    ids = ("fügen-1", "a b", "c")
    assert set(parse_roster(write_roster(ids), name="roster")) == set(ids)
    assert parse_roster(json.dumps(ids), name="roster") == ids
