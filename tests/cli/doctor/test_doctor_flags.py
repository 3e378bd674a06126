"""What doctor is asked for."""

from plantops_cli.cli.doctor.doctor_flags import DoctorFlags
from plantops_cli.cli.shared.flags.display import DocumentChoice
from tests.support.command_line import read


def test_each_word_arrives() -> None:
    flags = read(DoctorFlags, "a/#", "b", "-q", "2", "--wait", "1m", "--canary", "-o", "json")
    assert (flags.filters, flags.qos, flags.wait_seconds, flags.is_canary) == (("a/#", "b"), 2, 60, True)
    assert flags.output is DocumentChoice.JSON
