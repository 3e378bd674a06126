"""What may be asked of fleet together, and what may not."""

from collections.abc import Sequence

import pytest

from plantops_cli.cli.fleet.fleet_flags import FleetFlags
from plantops_cli.cli.shared.flags.display import FleetChoice
from plantops_cli.errors import ConfigError
from tests.support.command_line import read


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--once", "--events"), "--once and --events were given together"),
        (("--within", "3"), "are for --once"),
        (("--wait", "3"), "are for --once"),
        (("--events", "--save-roster", "x"), "are for --once"),
        (("--once", "--within", "3", "--wait", "4"), "--wait is the former name of --within"),
        (("--once", "-W", "3"), "--timeout is not for --once"),
        (("--once", "--field", "x"), "--field is for the live board"),
        (("--metrics-port", "9464"), "--metrics-port is for --events"),
        (("--once", "-o", "jsonl"), "--output jsonl does not fit"),
        (("--events", "-o", "csv"), "--output csv does not fit"),
        (("-o", "table"), "--output table does not fit"),
        (("--expect-ids", "a", "--expect", "/dev/null"), "no device id in it"),
    ],
)
def test_what_contradicts_itself_is_refused(arguments: Sequence[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(FleetFlags, *arguments)


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ((), FleetFlags()),
        (("--once", "-o", "csv"), FleetFlags(is_once=True, output=FleetChoice.CSV)),
        (("--events", "-o", "text"), FleetFlags(is_events=True, output=FleetChoice.TEXT)),
        (("--field", "soil", "-W", "3"), FleetFlags(field="soil", timeout_seconds=3)),
    ],
)
def test_what_fits_together_is_taken(arguments: Sequence[str], flags: FleetFlags) -> None:
    assert read(FleetFlags, *arguments) == flags
