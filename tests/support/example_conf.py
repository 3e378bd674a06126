"""Real brokers that run the shipped ``examples/mosquitto.conf``."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.brokers import PASSWORD, USERNAME, Mosquitto

EXAMPLES = Path(__file__).parents[2] / "examples"
DEVICES = ("farm_devices", PASSWORD)
"""The login of those who publish; that of the listeners may only read."""

_ACL = f"""\
user {USERNAME}
topic read devices/+/telemetry
topic read devices/+/heartbeat

user {DEVICES[0]}
topic write devices/#
"""


@dataclass
class FarmMosquitto(Mosquitto):
    """A broker with the example's configuration; only paths, port and user are this test's own.

    ``kill`` and ``start`` are a crash and its end: the files stay.
    """

    logins: dict[str, str] = field(
        default_factory=lambda: {USERNAME: PASSWORD, DEVICES[0]: DEVICES[1]}, repr=False
    )

    def configuration(self) -> str:
        """Write the files that the example names, and return the example."""
        super().configuration()
        (self.folder / "acl").write_text(_ACL)
        (self.folder / "acl").chmod(0o600)
        return example_configuration(self.folder, self.port) + self.extra


def example_configuration(folder: Path, port: int) -> str:
    """Return the example's text with the paths in a folder and the listener on loopback.

    Args:
        folder: where its files are to be.
        port: of the listener.
    """
    text = (EXAMPLES / "mosquitto.conf").read_text()
    replacements = {
        "listener": f"{port} 127.0.0.1",
        "password_file": str(folder / "passwords"),
        "acl_file": str(folder / "acl"),
        "pid_file": str(folder / "mosquitto.pid"),
        "persistence_location": f"{folder}/",
    }
    for option, value in replacements.items():
        text, count = re.subn(rf"(?m)^{option} .*$", f"{option} {value}", text)
        assert count == 1, f"{option} stands {count} times in the example"
    # started by root it would become the user mosquitto, who may not enter a folder of mode 0700
    return text + ("user root\n" if os.geteuid() == 0 else "")


@contextmanager
def farm_mosquitto() -> Iterator[FarmMosquitto]:
    """A running broker for one test.

    Its files are in memory where the system has a place for them: Mosquitto waits for the disk at every save, and
    a crash of a process does not ask where the files are.
    """
    shared_memory = Path("/dev/shm")
    with TemporaryDirectory(dir=shared_memory if shared_memory.is_dir() else None) as folder:
        broker = FarmMosquitto(Path(folder))
        broker.start()
        try:
            yield broker
        finally:
            broker.stop()
