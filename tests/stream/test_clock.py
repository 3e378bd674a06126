"""The clock that goes on while the machine sleeps, and the wall."""

import time
from datetime import UTC, datetime, timedelta

from plantops_cli.stream.clock import moment_of, since_boot


def test_it_never_goes_back_and_counts_seconds() -> None:
    began, before = since_boot(), time.monotonic()
    time.sleep(0.01)
    after, ended = time.monotonic(), since_boot()
    assert ended - began >= after - before > 0


def test_a_moment_is_told_by_the_wall_of_now() -> None:
    assert abs(moment_of(since_boot() - 3600) - (datetime.now(UTC) - timedelta(hours=1))) < timedelta(seconds=5)
