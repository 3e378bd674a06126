"""The roster of the devices that should be there, given as a file or as words."""

from pathlib import Path

import pytest

from plantops_cli.cli.check.check_flags import CheckFlags
from plantops_cli.cli.fleet.fleet_flags import FleetFlags
from plantops_cli.cli.shared.flags.fleet import RosterFlags
from plantops_cli.errors import ConfigError
from tests.support.command_line import read


def test_a_roster_is_a_file_or_a_flag_not_both(tmp_path: Path) -> None:
    roster = tmp_path / "roster"
    roster.write_text("a\nb\n")
    assert read(RosterFlags, "--expect", str(roster)).ids == ("a", "b")
    assert read(RosterFlags, "--expect-ids", "c").ids == ("c",)
    assert read(RosterFlags).ids == ()
    with pytest.raises(ConfigError, match="together"):
        read(RosterFlags, "--expect", str(roster), "--expect-ids", "c")


@pytest.mark.parametrize("kind", [CheckFlags, FleetFlags])
def test_fleet_and_check_take_one_roster(kind: type[CheckFlags] | type[FleetFlags]) -> None:
    assert read(kind, "--expect-ids", "a,b").roster.ids == ("a", "b")


@pytest.mark.parametrize("name", ["absent", "bytes", "."])
def test_a_roster_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=f"--expect '{tmp_path}") as caught:
        read(RosterFlags, "--expect", str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_line_that_is_no_device_id_is_named_by_its_number(tmp_path: Path) -> None:
    roster = tmp_path / "roster"
    roster.write_text("a\nb/c\n")
    with pytest.raises(ConfigError, match=f"^--expect '{roster}', line 2: 'b/c' is no device id$"):
        read(RosterFlags, "--expect", str(roster))
    with pytest.raises(ConfigError, match=r"^--expect-ids: 'b/c' is no device id$"):
        read(RosterFlags, "--expect-ids", "a,b/c")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("2.5", 2.5)])
def test_a_silence_is_a_time(text: str, seconds: float) -> None:
    assert read(CheckFlags, "--offline-after", text).offline_after_seconds == seconds


def test_a_roster_that_is_not_utf_8_is_refused_with_the_line(tmp_path: Path) -> None:
    roster = tmp_path / "roster"
    roster.write_bytes(b"a\nb\xff\n")
    with pytest.raises(ConfigError, match=r"roster', line 2: not UTF-8 text$"):
        read(RosterFlags, "--expect", str(roster))


def test_a_line_end_within_an_id_of_a_roster_is_kept_as_it_is(tmp_path: Path) -> None:
    roster = tmp_path / "roster"
    roster.write_bytes(b'device_id\r\n"a\rb\r\nc"\r\n')
    assert read(RosterFlags, "--expect", str(roster)).ids == ("a\rb\r\nc",)
