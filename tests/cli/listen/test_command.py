"""Flags that listen refuses, as a whole process."""

import pytest

from tests.support.plantops import run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--durable", "shed", "-q", "0"), "--durable and --qos 0"),
        (("--no-retained", "--retained-only"), "--no-retained and --retained-only leave nothing"),
        (("-C", "0"), "--count 0: must be at least 1"),
        (("-o", "jsonl", "a/#/b"), "a/#/b"),
    ],
    ids=["together", "selection", "limits", "filter"],
)
def test_what_makes_no_sense_is_one_line_before_anybody_is_asked(arguments: tuple[str, ...], said: str) -> None:
    done = run("listen", *arguments)
    assert (done.code, done.stdout) == (2, b"")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
