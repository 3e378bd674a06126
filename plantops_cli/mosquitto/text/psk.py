"""Mosquitto's file of pre-shared keys as text: which of its lines the broker refuses.

Pure. The rules are those of Mosquitto 2.0 and 2.1 (``psk__file_parse``, which 2.0 has in ``security_default.c``).
"""

import re

from plantops_cli.mosquitto.text.lint import FileFault, Weight

_HEX = re.compile(rb"[0-9A-Fa-f]*")


def check_psk_file(content: bytes) -> list[FileFault]:
    """Find the keys for which every Mosquitto 2 refuses a PSK file; no message holds a key.

    Args:
        content: the whole file.
    """
    return [
        FileFault(number, "the key is not hexadecimal", Weight.STOPS_ALL)
        for number, line in enumerate(content.split(b"\n"), start=1)
        if not _is_fine(line)
    ]


def _is_fine(line: bytes) -> bool:
    if line.startswith(b"#") or b":" not in line:
        return True
    fields = [field for field in line.split(b":") if field]  # as strtok() does: empty fields do not count
    return len(fields) < 2 or not fields[0].strip() or bool(_HEX.fullmatch(fields[1].strip()))
