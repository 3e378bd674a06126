"""How a fleet is shown, whatever its devices call themselves."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plantops_cli.cli.fleet.rendering import (
    STYLES,
    age,
    ago,
    event_line,
    every,
    headline,
    remarks,
    render_look,
    speed,
)
from plantops_cli.cli.shared.flags.display import FleetChoice
from plantops_cli.fleet.device import DeviceState
from plantops_cli.fleet.presence import Change
from plantops_cli.fleet.rhythm import Rhythm
from plantops_cli.fleet.roster import parse_roster
from tests.support.fleet_reports import FINE, device, look_at
from tests.support.terminal import own_terminal

HOSTILE = 'a|b\u202e\x1b[2J"\n,[bold]x[/bold]'
ESCAPED = r'a|b\u202e\x1b[2J"\n,[bold]x[/bold]'
EMPTY = replace(look_at(messages=0), listened_seconds=0.0)
MIXED = look_at(
    device(DeviceState.ONLINE, "c"),
    device(DeviceState.OFFLINE, "b", last_heartbeat=1.0, invalid=2, error="not JSON"),
    device(DeviceState.NEVER_SEEN, HOSTILE, messages=0, last_telemetry=None, interval_seconds=None),
    device(DeviceState.OFFLINE, "a"),
)
WORST_FIRST = ["a", "b", HOSTILE, "c"]
CHANGE = Change(at=100.0, device_id="a", before=DeviceState.LATE, state=DeviceState.OFFLINE, silent_seconds=40.0)
OFFSET = 1_763_928_902.0
_CELL = re.compile(r"(?:\\.|[^\\|])*")  # as GitHub reads it: a backslash takes the character behind it along


def text_of(change: Change, *, is_terminal: bool = False) -> str:
    return event_line(change, OFFSET, is_text=True, is_terminal=is_terminal).decode()


def cells_of(row: str) -> list[str]:
    """The cells of a row of a table in Markdown."""
    return [cell.strip() for cell in _CELL.findall(row.strip()[1:-1]) if cell]


# JSON, CSV, Markdown


def test_json_is_the_document_worst_first() -> None:
    text = render_look(MIXED, FleetChoice.JSON, is_terminal=False)
    assert text.endswith("}\n")
    document = json.loads(text)
    assert document == MIXED.document
    assert [one["device_id"] for one in document["devices"]] == WORST_FIRST


def test_json_is_the_same_document_on_a_terminal_and_commands_nothing() -> None:
    text = render_look(MIXED, FleetChoice.JSON, is_terminal=True)
    assert json.loads(text) == MIXED.document
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_csv_has_a_row_for_each_device_and_a_column_for_each_name_in_the_document() -> None:
    header, *rows = csv.reader(io.StringIO(render_look(MIXED, FleetChoice.CSV, is_terminal=False)))
    assert header == list(MIXED.row(FINE))
    assert [row[0] for row in rows] == WORST_FIRST


def test_what_is_not_known_is_an_empty_cell_of_csv() -> None:
    [row] = csv.DictReader(io.StringIO(render_look(look_at(FINE), FleetChoice.CSV, is_terminal=False)))
    assert (row["last_heartbeat"], row["expected"], row["invalid"]) == ("", "", "0")


def test_csv_on_a_terminal_is_escaped() -> None:
    text = render_look(MIXED, FleetChoice.CSV, is_terminal=True)
    assert [row["device_id"] for row in csv.DictReader(io.StringIO(text))] == ["a", "b", ESCAPED, "c"]
    assert "\x1b" not in text


def test_csv_of_nobody_has_its_header_all_the_same() -> None:
    assert render_look(EMPTY, FleetChoice.CSV, is_terminal=False) == "device_id,state\n"


def test_markdown_is_a_table_and_the_headline_below_it() -> None:
    header, line, *rows, blank, last = render_look(MIXED, FleetChoice.MD, is_terminal=False).splitlines()
    assert cells_of(header)[:2] == ["state", "device"]
    assert line == "|" + "---|" * 8
    assert [cells_of(row)[0] for row in rows] == ["offline", "offline", "never seen", "online"]
    assert (blank, last) == ("", headline(MIXED).plain)


@example("\\|")
@example("\n| offline | ")
@given(st.text(st.sampled_from("\\|\n\r`a\u202e") | st.characters(exclude_categories=["Cs"])))
def test_no_id_breaks_out_of_its_cell_of_markdown(device_id: str) -> None:
    look = look_at(device(DeviceState.ONLINE, f"({device_id})"))
    row = render_look(look, FleetChoice.MD, is_terminal=False).split("\n")[2]
    cells = cells_of(row)
    assert len(cells) == 8
    assert (cells[0], cells[1][0], cells[1][-1], cells[-1]) == ("online", "(", ")", "")


def test_no_spreadsheet_runs_what_a_device_says_and_a_roster_takes_the_apostrophe_off() -> None:
    ids = ["=1*2", "@SUM(1)", "-12.5", "'=x", "\tx", " a ", 'a"b,c']
    look = look_at(*(device(DeviceState.ONLINE, one, error="=cmd", invalid=1) for one in ids))
    text = render_look(look, FleetChoice.CSV, is_terminal=False)
    rows = list(csv.DictReader(io.StringIO(text)))
    shown = {row["device_id"] for row in rows}
    assert shown == {"'=1*2", "'@SUM(1)", "-12.5", "''=x", "'\tx", " a ", 'a"b,c'}
    assert {row["error"] for row in rows} == {"'=cmd"}
    assert sorted(parse_roster(text, name="roster")) == sorted(ids)


def test_markdown_shows_links_and_tags_and_follows_none() -> None:
    look = look_at(device(DeviceState.ONLINE, "<b>[x](y)`|", error="see http://x"))
    row = render_look(look, FleetChoice.MD, is_terminal=False).split("\n")[2]
    assert r"&lt;b&gt;\[x\](y)\`\|" in row
    assert r"see http\://x" in row


# The table


def test_off_a_terminal_the_table_has_no_colour_and_the_headline_below_it() -> None:
    header, *rows, last = render_look(MIXED, FleetChoice.TABLE, is_terminal=False).splitlines()
    assert header.split()[:3] == ["state", "device", "telemetry"]
    assert [row[:10].strip() for row in rows] == ["offline", "offline", "never seen", "online"]
    assert last == headline(MIXED).plain


def test_an_id_in_the_table_is_neither_a_command_nor_markup() -> None:
    text = render_look(MIXED, FleetChoice.TABLE, is_terminal=False)
    assert ESCAPED[:31] in text
    assert "[bold]x" in render_look(
        look_at(device(DeviceState.ONLINE, "[bold]x[/bold]")), FleetChoice.TABLE, is_terminal=False
    )


def test_a_long_id_leaves_the_other_columns_where_they_are() -> None:
    look = look_at(device(DeviceState.ONLINE, "x" * 300), device(DeviceState.ONLINE, "y"))
    first, second = render_look(look, FleetChoice.TABLE, is_terminal=False).splitlines()[1:3]
    assert first.count("x") < 32
    assert first.index("10s") == second.index("10s")


def test_on_a_terminal_the_table_is_in_colour_as_wide_as_that_and_commands_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    with own_terminal(columns=90):
        text = render_look(MIXED, FleetChoice.TABLE, is_terminal=True)
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert plain != text
    assert plain.replace("\n", "").isprintable()
    assert max(map(len, plain.splitlines())) <= 90


def test_every_state_has_a_colour_of_its_own_or_shares_it_with_its_like() -> None:
    assert set(STYLES) == set(DeviceState)
    assert len({str(style) for style in STYLES.values()}) == len(DeviceState) - 1
    assert STYLES[DeviceState.MUTE] == STYLES[DeviceState.NO_HEARTBEAT]


def test_a_rate_that_is_not_known_yet_is_a_dash() -> None:
    assert speed(FINE) == "0.10/s"
    assert [speed(replace(FINE, rate=rate)) for rate in (0.0, 1 / 300)] == ["0.00/s", "<0.01/s"]
    assert speed(replace(FINE, rate=None)) == "-"
    assert speed(replace(FINE, rate=None, messages=0)) == ""
    [row] = csv.DictReader(
        io.StringIO(render_look(look_at(replace(FINE, rate=None)), FleetChoice.CSV, is_terminal=False))
    )
    assert row["rate"] == ""


def test_ages_in_the_table_count_up_to_the_look() -> None:
    look = replace(look_at(FINE), taken_at=41.0)
    assert render_look(look, FleetChoice.TABLE, is_terminal=False).splitlines()[1].split()[2] == "40s"


@pytest.mark.parametrize("choice", FleetChoice)
def test_what_is_not_known_of_a_device_is_said_in_every_form(choice: FleetChoice) -> None:
    heard = replace(FINE, telemetry_rhythm=Rhythm.QUIET, heartbeat_rhythm=Rhythm.NOT_HEARD)
    retained = device(DeviceState.NEVER_SEEN, "b", messages=0, is_retained_only=True)
    text = render_look(look_at(heard, retained), choice, is_terminal=False)
    for remark in ("telemetry quiet before its rhythm was known", "heartbeat not heard yet", "retained only"):
        assert remark in text


# The headline


def test_the_headline_counts_devices_by_state_and_messages_by_time() -> None:
    assert headline(MIXED).plain == (
        "4 devices: 1 online, 1 never seen, 2 offline; 60 messages in 60 s (1.0/s), 2 invalid"
    )


def test_one_of_a_kind_is_said_as_one() -> None:
    look = replace(look_at(FINE, messages=1), outages=1)
    assert headline(look).plain == "1 device: 1 online; 1 message in 60 s (0.0/s); 1 outage of our own"


def test_the_headline_names_how_many_were_not_expected() -> None:
    look = look_at(replace(FINE, is_expected=False), device(DeviceState.ONLINE, "b", is_expected=True))
    assert headline(look).plain.startswith("2 devices: 2 online, 1 not expected; ")


def test_the_headline_says_which_field_is_in_no_message() -> None:
    look = replace(look_at(FINE), absent_fields={"seq": "ty\x1bpo"})
    assert headline(look).plain.endswith(r"(1.0/s); no sequence number in 'ty\x1bpo' of any message")


def test_a_fleet_that_was_never_listened_to_has_a_headline_too() -> None:
    assert headline(EMPTY).plain == "0 devices; 0 messages in 0 s"


# Changes


def test_a_change_is_an_object_on_a_line_for_programs() -> None:
    line = event_line(CHANGE, OFFSET, is_text=False, is_terminal=False)
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "tst": "2025-11-23T20:16:42.000000+00:00",
        "device_id": "a",
        "state": "offline",
        "before": "late",
        "topic": None,
        "silent_seconds": 40.0,
        "remarks": [],
    }


def test_a_change_tells_the_topic_that_it_is_about_and_what_is_not_known() -> None:
    change = CHANGE._replace(
        state=DeviceState.MUTE, topic="telemetry", silent_seconds=50.0, remarks=("heartbeat rhythm not known yet",)
    )
    assert text_of(change).endswith("was late, telemetry silent for 50s, heartbeat rhythm not known yet\n")
    document = json.loads(event_line(change, OFFSET, is_text=False, is_terminal=False))
    assert (document["topic"], document["silent_seconds"]) == ("telemetry", 50.0)
    assert document["remarks"] == ["heartbeat rhythm not known yet"]


def test_a_remark_without_a_change_says_that_the_state_is_still_the_same() -> None:
    remark = CHANGE._replace(before=DeviceState.ONLINE, state=DeviceState.ONLINE)
    assert "still online" in text_of(remark)


def test_what_was_not_known_before_is_null() -> None:
    change = CHANGE._replace(before=None)
    assert json.loads(event_line(change, OFFSET, is_text=False, is_terminal=False))["before"] is None


def test_a_change_is_a_line_for_people() -> None:
    assert re.fullmatch(r"\d\d:16:42  offline       a  was late, silent for 40s\n", text_of(CHANGE)), text_of(
        CHANGE
    )


def test_who_was_not_known_before_is_new_and_who_just_spoke_not_silent() -> None:
    change = Change(at=100.0, device_id="a", before=None, state=DeviceState.ONLINE, silent_seconds=0.0)
    assert text_of(change).endswith("  online        a  new\n")


@pytest.mark.parametrize("is_text", [True, False], ids=["text", "jsonl"])
def test_on_a_terminal_a_change_is_one_line_and_commands_nothing(is_text: bool) -> None:
    change = CHANGE._replace(device_id=HOSTILE + "x" * 500)
    line = event_line(change, OFFSET, is_text=is_text, is_terminal=True).decode()
    assert line.removesuffix("\n").isprintable()
    assert "x" * 500 in line
    assert is_text or json.loads(line)["device_id"] == change.device_id


# Words and numbers


def test_of_a_healthy_device_there_is_nothing_to_remark() -> None:
    assert remarks(FINE) == []
    assert remarks(replace(FINE, missing=0, duplicates=0, restarts=0, is_expected=True)) == []


def test_everything_odd_is_remarked() -> None:
    odd = replace(
        FINE,
        missing=1_000,
        missed=2,
        out_of_order=3,
        duplicates=4,
        restarts=5,
        lag_seconds=-0.25,
        is_expected=False,
        is_retained_only=True,
        error="not JSON",
    )
    assert ", ".join(remarks(odd)) == (
        "1,000 missing, 2 missed by us, 3 out of order, 4 duplicates, 5 restarts, lag -0.25 s, "
        "not expected, retained only, not JSON"
    )


@pytest.mark.parametrize(
    ("telemetry", "heartbeat", "said"),
    [(10.0, 60.0, "10s"), (None, 60.0, "60s"), (None, None, "")],
    ids=["telemetry", "heartbeat", "neither"],
)
def test_how_often_it_speaks_is_told_by_its_telemetry_first(
    telemetry: float | None, heartbeat: float | None, said: str
) -> None:
    assert every(replace(FINE, interval_seconds=telemetry, heartbeat_interval_seconds=heartbeat)) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0.0s"),
        (9.94, "9.9s"),
        (10.0, "10s"),
        (119.4, "119s"),
        (120.0, "2m"),
        (7_140.0, "119m"),
        (7_200.0, "2h"),
        (172_799.0, "48h"),
        (172_800.0, "2d"),
        (86_400.0 * 1_000, "1000d"),
    ],
)
def test_a_length_of_time_takes_few_characters(seconds: float, said: str) -> None:
    assert age(seconds) == said


@pytest.mark.parametrize(("at", "said"), [(None, "never"), (90.0, "10s"), (100.5, "0.0s")])
def test_nothing_was_heard_in_the_future(at: float | None, said: str) -> None:
    assert ago(at, 100.0) == said
