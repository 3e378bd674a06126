"""What demo is asked for."""

from plantops_cli.cli.demo.demo_flags import DemoFlags
from plantops_cli.formats.registry import Format
from tests.support.command_line import read


def test_each_word_arrives() -> None:
    flags = read(DemoFlags, "--embedded", "-C", "3", "-W", "60", "-o", "pretty", "--quiet")
    assert flags == DemoFlags(is_embedded=True, count=3, timeout_seconds=60, output=Format.PRETTY, is_quiet=True)


def test_by_default_it_lasts_until_it_is_stopped() -> None:
    flags = read(DemoFlags)
    assert (flags.is_embedded, flags.count, flags.timeout_seconds) == (False, None, None)
