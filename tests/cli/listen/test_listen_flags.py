"""What may be asked of listen together, and what may not."""

from collections.abc import Sequence

import pytest

from plantops_cli.cli.listen.listen_flags import ListenFlags
from plantops_cli.errors import ConfigError
from tests.support.command_line import read


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--durable", "shed", "-q", "0"), "--durable and --qos 0"),
        (("--to", "x", "-o", "pretty"), "--to writes JSON lines"),
        (("--rotate-size", "1M"), "are for --to"),
        (("--metrics-per-device",), "is for --metrics-port"),
    ],
)
def test_what_contradicts_itself_is_refused(arguments: Sequence[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(ListenFlags, *arguments)


def test_filters_may_stand_anywhere() -> None:
    flags = read(ListenFlags, "a/#", "-C", "3", "b", "--ask-password", "c")
    assert (flags.filters, flags.count, flags.connection.ask_password) == (("a/#", "b", "c"), 3, True)
