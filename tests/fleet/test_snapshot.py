"""What the reports of a fleet come to."""

from dataclasses import replace

import pytest

from plantops_cli.fleet.device import DeviceState
from plantops_cli.fleet.rhythm import Rhythm
from plantops_cli.fleet.snapshot import AILING
from tests.support.fleet_reports import FINE, device, look_at


def test_a_field_that_is_in_no_message_is_said_in_the_summary_and_in_words() -> None:
    look = replace(look_at(FINE), absent_fields={"seq": "typo", "clock": "soil.at"})
    assert look.summary["absent_fields"] == {"seq": "typo", "clock": "soil.at"}
    assert look.absences == [
        "no sequence number in 'typo' of any message",
        "no timestamp in 'soil.at' of any message",
    ]


def test_the_document_has_the_summary_and_the_worst_device_first() -> None:
    expected = device(DeviceState.NEVER_SEEN, "y", is_expected=True, messages=0, last_telemetry=None)
    snapshot = look_at(replace(FINE, is_expected=False), expected)
    assert snapshot.document["summary"] == {
        "devices": 2,
        "online": 1,
        "late": 0,
        "no_heartbeat": 0,
        "mute": 0,
        "never_seen": 1,
        "offline": 0,
        "missing": 1,
        "unknown": 1,
        "retained_only": 0,
        "rhythm_unknown": 0,
        "quiet": 0,
        "messages": 60,
        "rate": 1.0,
        "invalid": 0,
        "passed_over": 0,
        "listened_seconds": 60.0,
        "outages": 0,
    }
    assert (snapshot.missing, snapshot.unknown) == (["y"], ["a"])
    rows = snapshot.document["devices"]
    assert isinstance(rows, list)
    assert [row["device_id"] for row in rows] == ["y", "a"]
    assert rows[1]["last_telemetry"] == "2025-11-23T20:15:03.000+00:00"


def test_the_worst_come_first_and_equals_by_id() -> None:
    snapshot = look_at(FINE, device(DeviceState.LATE, "c"), *(device(DeviceState.OFFLINE, name) for name in "db"))
    assert [report.device_id for report in snapshot.worst_first] == ["b", "d", "c", "a"]


def test_every_state_is_counted_also_when_nobody_is_in_it() -> None:
    assert look_at(FINE).counts == {**dict.fromkeys(DeviceState, 0), DeviceState.ONLINE: 1}


def test_who_ails_is_neither_well_nor_gone() -> None:
    assert not {DeviceState.ONLINE, DeviceState.OFFLINE, DeviceState.NEVER_SEEN} & set(AILING)


def test_without_a_roster_nobody_is_missing_or_unknown() -> None:
    snapshot = look_at(FINE, device(DeviceState.NEVER_SEEN, messages=0))
    assert (snapshot.missing, snapshot.unknown) == ([], [])


def test_who_has_not_listened_for_a_second_has_heard_at_no_rate() -> None:
    assert look_at(FINE).rate == 1.0
    assert replace(look_at(FINE), listened_seconds=0.03).rate is None
    assert replace(look_at(FINE), listened_seconds=0.03).summary["rate"] is None


def test_messages_of_another_time_belong_to_no_rate() -> None:
    assert replace(look_at(FINE), old_messages=30).rate == 0.5


def test_of_whom_nothing_can_be_said_is_noted_with_the_reason() -> None:
    assert look_at(FINE).notes == ()
    retained = device(DeviceState.NEVER_SEEN, "r", is_retained_only=True, messages=0)
    quiet = device(DeviceState.ONLINE, "q", interval_seconds=None, telemetry_rhythm=Rhythm.QUIET)
    seldom = [device(DeviceState.ONLINE, f"s{n}", interval_seconds=None) for n in range(7)]
    snapshot = look_at(FINE, retained, quiet, *seldom)
    assert snapshot.notes == (
        "1 quiet before the rhythm was known: q",
        "1 retained only: r",
        "7 heard too seldom to know the rhythm: s0, s1, s2, s3, s4 and 2 more",
    )
    summary = snapshot.summary
    assert (summary["quiet"], summary["retained_only"], summary["rhythm_unknown"]) == (1, 1, 8)


def test_a_row_holds_the_remarks_on_its_device() -> None:
    heard = device(DeviceState.ONLINE, telemetry_rhythm=Rhythm.KNOWN, heartbeat_rhythm=Rhythm.NOT_HEARD)
    row = look_at(heard).row(heard)
    assert (row["telemetry_rhythm"], row["heartbeat_rhythm"]) == ("known", "not_heard")
    assert row["remarks"] == ["heartbeat not heard yet"]


def test_invalid_payloads_are_those_of_all_devices() -> None:
    assert look_at(device(DeviceState.ONLINE, invalid=2), device(DeviceState.ONLINE, "y", invalid=3)).invalid == 5


@pytest.mark.parametrize("key", ["last_telemetry", "last_heartbeat", "interval_seconds", "lag_seconds", "rate"])
def test_what_is_not_known_of_a_device_is_null_in_its_row(key: str) -> None:
    nothing = device(DeviceState.NEVER_SEEN, last_telemetry=None, interval_seconds=None, rate=None)
    assert look_at(nothing).row(nothing)[key] is None
