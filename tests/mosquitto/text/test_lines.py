"""Lines as the broker reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.mosquitto.text.lines import newline_of, split_lines


@given(st.binary())
def test_the_lines_of_a_file_are_all_of_it(content: bytes) -> None:
    assert b"".join(split_lines(content)) == content


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"a\n", [b"a\n"]),
        (b"a\nb", [b"a\n", b"b"]),
        (b"\n\n", [b"\n", b"\n"]),
        (b"a\rb\vc\x85\n", [b"a\rb\vc\x85\n"]),
    ],
)
def test_a_line_ends_at_a_line_feed_alone(content: bytes, lines: list[bytes]) -> None:
    assert split_lines(content) == lines


@pytest.mark.parametrize(
    ("content", "newline"),
    [(b"", b"\n"), (b"a\nb\r\n", b"\n"), (b"a\r\nb\n", b"\r\n"), (b"a\r", b"\r\n")],
)
def test_new_lines_end_as_the_first_one_does(content: bytes, newline: bytes) -> None:
    assert newline_of(content) == newline
