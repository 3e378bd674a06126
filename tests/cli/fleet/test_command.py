"""Flags that fleet refuses, as a whole process."""

import pytest

from tests.support.plantops import run


@pytest.mark.parametrize("flag", ["--within", "--wait"])
def test_a_time_that_is_none_is_refused_by_the_name_that_was_typed(flag: str) -> None:
    done = run("fleet", "--once", flag, "soon")
    assert (done.code, done.stdout) == (2, b"")
    assert f"{flag} 'soon': no time above 0" in done.stderr
