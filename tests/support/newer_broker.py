"""The installed Mosquitto under the version 2.1, which plantops takes for stricter than 2.0."""

import re
from pathlib import Path

from tests.support.brokers import executable

_VERSION = re.compile(rb"(?<=\0)2\.0(?=\.[0-9]+\0)")


def install_newer(folder: Path) -> Path:
    """Put a real mosquitto into a folder that says it is a 2.1, and return its path."""
    program = folder / "mosquitto"
    program.write_bytes(_VERSION.sub(b"2.1", Path(executable()).read_bytes()))
    program.chmod(0o755)
    return program
