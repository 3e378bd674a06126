"""Rosters in all their forms."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plantops_cli.errors import ConfigError
from plantops_cli.fleet.roster import parse_ids, parse_roster, write_roster
from plantops_cli.formats.spreadsheet import csv_line

ODD_ONES = [
    " a ",
    "[x]",
    "{x}",
    "device_id",
    "Device ID",
    "id",
    '"a"',
    'a"b',
    "a,b",
    "a;b",
    "a|b",
    "=x",
    "'=x",
    "''=x",
]
ODD_ONES += [
    "'a",
    "\ta\t",
    "a\nb",
    "a\r",
    "\x1b[2J",
    "a\u2028b",
    "\x85",
    "\xa0a",
    "\ufeffa",
    "- a",
    "<a>",
    "sep=;",
    "-12.5",
    "a: b",
    "name",
    "Serial",
    "Device ID x",
]
# all that MQTT allows in one level of a topic name
IDS = (
    st.text(
        st.sampled_from("[]{}\"',;|= -@\t\r\n\x00\x1b\x85\u2028\ufeff\u3164aé")
        | st.characters(exclude_categories=["Cs"]),
        min_size=1,
        max_size=12,
    )
    .map(lambda text: "".join(character for character in text if character not in "/+#\0"))
    .filter(bool)
)


@pytest.mark.parametrize(
    "text",
    [
        "b\na\n",
        "\ufeffb\r\na\r\n",
        "# the greenhouse\n\n  b  \na\nb\n",
        "device_id\nb\na\n",
        'name,device_id\nBasil,b\n"Aloe, old",a\n',
        "name;Device_ID\nBasil;b\nAloe;a\n",
        "Name,Device ID\r\nBasil,b\r\nAloe,a\r\n",
        '\ufeff"Name";"deviceId"\n"Basil; red";"b"\nAloe; a \n;\n',
        "Name\tDEVICE-ID\tid\nBasil\tb\t1\nAloe\ta\t2\n",
        '"ID"\n"b"\n"a"\n',
        "Device IDs\nb\na\n",
        "devices\nb\na\n",
        "device_id,name\nb,Basil,,\na\n",
        "sep=;\nid;name\nb;Basil\na;Aloe, old\n",
        "#;device_id\ndevice_id;#\nb;1\na;2\n",
        "#1,x\nNo.,device\n#1,b\n# gone: c\n#2,a\n",
        '[{"Device ID": "b", "id": 7}, {"deviceId": "a"}]',
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
        ("name,place\nBasil,kitchen\n", "line 1: several columns"),
        ("a\nb;c\n", "line 2: several columns"),
        ("a\tb\n", "line 1: several columns"),
        ("| device |\n|---|\n", "line 1: several columns"),
        ("device|name\n", "line 1: several columns"),
        ("a\n- b\n", "line 2: '- b' looks like part of a list"),
        ("a\n[x]\n", "line 2: '[x]' looks like part of a list"),
        ("<ids>\n", "line 1: '<ids>' looks like"),
        ("Device name\nBasil\n", "line 1: 'Device name' looks like the header"),
        ("# plants\n\nSerial-Number\n17\n", "line 3: 'Serial-Number' looks like the header"),
        ("Device ID  Name\na          Basil\n", "line 1: 'Device ID  Name' looks like part of"),
        ("Device ID (MQTT)\na\n", "line 1: 'Device ID (MQTT)' looks like part of"),
        ("devices:\n  - a\n", "line 1: 'devices:' looks like part of"),
        ("<id>\na\n", "line 1: '<id>' looks like part of"),
        ("a\ndevice_id: b\n", "line 2: 'device_id: b' looks like part of"),
        ("a = 1\n", "line 1: 'a = 1' looks like part of"),
        ("name,device_id\nBasil,b\nAloe, old,a\n", "line 3: more cells"),
        ("[x]\n", "not JSON: Expecting value: line 1"),
        ('a\n"b\n', "line 2: quotes are not closed"),
        ('a\n"b"c\n', "line 2: quotes are not closed"),
        ("sep=;\nid;name\n;Basil\n", "line 3: ''"),
        ("device_id,Device ID\na,b\n", "line 1: two columns"),
        ('id,name\na,"Basil\nis green"\n,c\n', "line 4: ''"),
        ("name,device_id\nBasil\n", "line 2: ''"),
        ("[1]", "entry 1: 1 is no device id"),
        ('[{"name": "a"}]', "entry 1: None"),
        ("[", "roster: "),
        ('{"plants": []}', "without a list"),
        (f"[{'9' * 5_000}]", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_roster_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"^roster") as caught:
        parse_roster(text, name="roster")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "device_id", ["ac:de:48:00", "id:7", "dGVzdGE=", "a=b", "device-id-7", "deviceid7", "names"]
)
def test_an_id_as_devices_have_them_is_no_markup(device_id: str) -> None:
    assert parse_roster(f"{device_id}\nname\n", name="roster") == (device_id, "name")
    assert write_roster([device_id]) == f"{device_id}\n"


def test_ids_may_be_given_in_one_flag() -> None:
    assert parse_ids("b, a,b", name="--expect-ids") == ("b", "a")
    with pytest.raises(ConfigError, match="--expect-ids: '' is no device id"):
        parse_ids("a,,b", name="--expect-ids")


@given(st.lists(IDS, min_size=1))
@example(ODD_ONES)
def test_whatever_mqtt_allows_in_an_id_is_read_back_exactly(ids: list[str]) -> None:
    assert parse_roster(write_roster(ids), name="roster") == tuple(sorted(set(ids)))
    for device_id in ids:
        assert parse_roster(write_roster([device_id]), name="roster") == (device_id,)


@given(st.lists(IDS, min_size=1, unique=True))
@example(ODD_ONES)
def test_ids_in_a_table_of_ours_are_read_back_exactly(ids: list[str]) -> None:
    table = csv_line(["device_id", "state"]) + "".join(csv_line([device_id, "late"]) for device_id in ids)
    assert parse_roster(table, name="roster") == tuple(ids)


@pytest.mark.parametrize("device_id", ODD_ONES)
def test_an_id_in_quotes_is_taken_as_it_is(device_id: str) -> None:
    doubled = device_id.replace('"', '""')
    expected = device_id[1:] if device_id in ("'=x", "''=x") else device_id
    assert parse_roster(f'plant\n"{doubled}"\n', name="roster") == ("plant", expected)


def test_plain_ids_are_written_one_a_line_and_what_is_not_seen_as_an_escape() -> None:
    assert write_roster(["b", "a b", "a"]) == "a\na b\nb\n"
    assert write_roster(["a", "\u202e", "é"]) == '[\n"a",\n"é",\n"\\u202e"\n]\n'
    assert write_roster([]) == ""


def test_what_is_written_is_read_again() -> None:
    ids = ("fügen-1", "a b", "c")
    assert set(parse_roster(write_roster(ids), name="roster")) == set(ids)
    assert parse_roster(json.dumps(ids), name="roster") == ids
