"""The lines of a file as Mosquitto reads them. Pure.

The broker ends a line at LF alone, and trims by ``isspace()`` of the C locale (``fgets_extending`` and
``misc__trimblanks`` in its ``misc_mosq.c``). ``bytes.strip`` takes just those six bytes; ``str.strip`` and
``splitlines`` would take more.
"""

import re

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


def split_lines(content: bytes) -> list[bytes]:
    """Split a file into its lines, each with the line feed that ends it.

    Args:
        content: the whole file.
    """
    return _LINE.findall(content)


def newline_of(content: bytes) -> bytes:
    """Return how the first line of a file ends, for new lines to end so too.

    Args:
        content: the whole file, or one line of it.
    """
    first, _, _ = content.partition(b"\n")
    return b"\r\n" if first.endswith(b"\r") else b"\n"
