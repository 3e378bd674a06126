"""What a command has found, on standard output."""

import io
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from plantops_cli.cli.shared.results import show_document, show_text
from plantops_cli.errors import OutputError

TEXT = "pfl\xe4nzchen \u690d \udcff\n"


def written(encoding: str) -> bytes:
    """What is written to a stream of an encoding, first for people, then for programs."""
    with redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding=encoding)) as stdout:
        show_text(TEXT)
        show_document("\u690d\n".encode())
        buffer = stdout.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue()


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("ascii", rb"pfl\xe4nzchen \u690d \udcff"),
        ("iso-8859-1", b"pfl\xe4nzchen \\u690d \\udcff"),
        ("utf-8", "pfl\xe4nzchen \u690d \\udcff".encode()),
    ],
)
def test_a_text_is_in_the_encoding_of_the_stream_and_a_document_in_utf_8(encoding: str, text: bytes) -> None:
    assert written(encoding) == text + "\n\u690d\n".encode()


def test_a_stream_in_memory_gets_both_as_text() -> None:
    with redirect_stdout(io.StringIO()) as stdout:
        show_text("\u690d\n")
        show_document("\u690d\n".encode())
    assert stdout.getvalue() == "\u690d\n\u690d\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_is_an_error_of_standard_output_and_nothing_is_left_to_be_written() -> None:
    with Path("/dev/full").open("w") as full, redirect_stdout(full):
        with pytest.raises(OutputError, match="cannot write to standard output: No space left"):
            show_text("x\n")
        sys.stdout.flush()
