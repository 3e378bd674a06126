"""What may be asked of check."""

from plantops_cli.cli.check.check_flags import CheckFlags
from tests.support.command_line import read


def test_each_threshold_arrives() -> None:
    flags = read(CheckFlags, "--warn-late", "2", "--crit-offline", "3", "--min-rate", "0.5", "--max-invalid", "4")
    assert (flags.warn_late, flags.crit_offline, flags.min_rate, flags.max_invalid) == (2, 3, 0.5, 4)


def test_by_default_one_device_is_enough_and_no_rate_too_low() -> None:
    flags = read(CheckFlags)
    assert (flags.warn_late, flags.crit_offline, flags.min_rate, flags.max_invalid) == (1, 1, None, None)
