"""What a command has found, on standard output: in the encoding of the locale for people, UTF-8 for programs."""

import sys

from plantops_cli.cli.shared.stderr import silence
from plantops_cli.errors import OutputError


def show_text(text: str) -> None:
    r"""Write what people read; a character that the encoding of the locale has not is escaped, as in ``\\u690d``.

    Args:
        text: whole lines.

    Raises:
        BrokenPipeError: the reader has gone.
        OutputError: standard output refuses it.
    """
    encoding = sys.stdout.encoding or "utf-8"
    _show(text.encode(encoding, "backslashreplace"), encoding)


def show_document(document: bytes) -> None:
    """Write what programs read, whatever the locale.

    Args:
        document: text in UTF-8.

    Raises:
        BrokenPipeError: the reader has gone.
        OutputError: standard output refuses it.
    """
    _show(document, "utf-8")


def _show(data: bytes, encoding: str) -> None:
    try:
        if not hasattr(sys.stdout, "buffer"):
            # a stream in memory, of a program that runs a command line in itself
            sys.stdout.write(data.decode(encoding))
            return
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        # what is left in the buffer would be tried once more at the very end
        silence(sys.stdout)
        raise OutputError(f"cannot write to standard output: {exc.strerror or exc}") from exc
