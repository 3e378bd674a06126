"""How long to look, in every command that looks for a while."""

import pytest

from plantops_cli.cli.check.check_flags import CheckFlags
from plantops_cli.cli.fleet.fleet_flags import FleetFlags
from tests.support.command_line import read


@pytest.mark.parametrize(("text", "seconds"), [("3", 3), ("90s", 90), ("5m", 300)])
def test_within_is_read_alike_in_check_and_in_fleet(text: str, seconds: float) -> None:
    assert read(CheckFlags, "--within", text).within_seconds == seconds
    assert read(FleetFlags, "--once", "--within", text).once_seconds == seconds


def test_a_check_looks_for_a_minute_and_a_fleet_for_half_of_one() -> None:
    assert (read(CheckFlags).within_seconds, read(FleetFlags).once_seconds) == (60, 30)
