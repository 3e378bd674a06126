"""The run of ``check``, as far as it comes without a broker."""

import pytest

from plantops_cli.cli.check.check_flags import CheckFlags
from plantops_cli.cli.check.run import run_check


async def test_what_is_too_much_is_settled_before_the_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert await run_check(CheckFlags(within_seconds=3_600, warn_late=0)) == 3
    assert capsys.readouterr().out == "PLANTOPS UNKNOWN - --warn-late 0: must be at least 1\n"
