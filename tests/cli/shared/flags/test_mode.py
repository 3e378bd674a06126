"""Which of its trades a command is asked for."""

import pytest

from plantops_cli.cli.fleet.fleet_flags import FleetFlags
from tests.support.command_line import BY_COMMAND, read


@pytest.mark.parametrize("flag", ["--within", "--wait"])
def test_the_former_name_of_a_flag_means_the_same(flag: str) -> None:
    assert read(FleetFlags, "--once", flag, "1.5m").once_seconds == 90


def test_a_former_name_stands_in_no_help() -> None:
    assert [option.hidden for option in BY_COMMAND["fleet"] if option.opts == ["--wait"]] == [True]
