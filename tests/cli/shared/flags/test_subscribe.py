"""The flags of a stream, read from a command line."""

import pytest

from plantops_cli.cli.doctor.doctor_flags import DoctorFlags
from plantops_cli.cli.listen.listen_flags import ListenFlags
from plantops_cli.cli.shared.flags.subscribe import SessionFlags
from tests.support.command_line import read


def test_filters_and_devices_are_as_many_as_are_given() -> None:
    flags = read(ListenFlags, "a/#", "--device", "x", "b", "-T", "c/+", "--device", "y", "-T", "d")
    assert (flags.filters, flags.devices, flags.filter_out) == (("a/#", "b"), ("x", "y"), ("c/+", "d"))
    none = read(ListenFlags)
    assert (none.filters, none.devices, none.filter_out) == ((), (), ())


@pytest.mark.parametrize(("text", "seconds"), [("0.5", 0.5), ("250ms", 0.25), ("1m", 60)])
def test_the_wait_for_a_message_is_a_time(text: str, seconds: float) -> None:
    assert read(DoctorFlags, "--wait", text).wait_seconds == seconds
    assert read(DoctorFlags).wait_seconds == 10


def test_a_session_is_handed_on_by_the_names_of_the_library() -> None:
    flags = read(SessionFlags, "--durable", "shed", "--session-expiry", "60", "--group", "g", "--group-anyway")
    assert flags.keywords == {
        "durable": "shed",
        "session_expiry_seconds": 60,
        "group": "g",
        "group_anyway": True,
        "max_packet_bytes": 16 * 1024 * 1024,
    }
