"""The file of pre-shared keys as text, and the same text given to a real broker."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from plantops_cli.mosquitto.text.lint import Weight
from plantops_cli.mosquitto.text.psk import check_psk_file
from tests.mosquitto.conftest import Mosquitto
from tests.support.brokers import executable, free_port

START_SECONDS = 10.0


def has_started(broker: Mosquitto) -> bool:
    """Whether the broker takes a login, which it does after it has read its files; False when it ended."""
    deadline = time.monotonic() + START_SECONDS
    while broker.process.poll() is None and time.monotonic() < deadline:
        try:
            broker.connack("somebody", b"")
        except (OSError, AssertionError):  # it does not listen yet, or ended meanwhile
            time.sleep(0.02)
        else:
            return True
    assert broker.process.poll() is not None, "it neither listens nor ends"
    return False


@pytest.mark.parametrize(
    "content",
    [
        b"a:ABCD09ef\n",
        b"a:zz\n",
        b"a:0x12\n",
        b"a:\n",
        b":zz\n",
        b"no colon\n",
        b"#a:zz\n",
        b" a : ab \n",
        b"a:ab cd\n",
        b"a:abc\n",
        b"a:ab:zz\n",
        b"a::zz\n",
        b"a:ab\r\n",
        b"a:ab\nb:-\n",
        b"a:ab",
        b"",
    ],
)
def test_a_psk_file_is_refused_when_a_real_broker_would_refuse_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "psk").write_bytes(content)
    user = "user root\n" if os.geteuid() == 0 else ""
    port = free_port()
    (tmp_path / "mosquitto.conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\n{user}psk_file {tmp_path / 'psk'}\n"
    )
    quiet = subprocess.DEVNULL
    command: list[str | Path] = [executable(), "-c", tmp_path / "mosquitto.conf"]
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        is_refused = not has_started(Mosquitto(process, port))
        process.terminate()
    faults = check_psk_file(content)
    assert any(fault.weight is Weight.STOPS_ALL for fault in faults) is is_refused
    assert not any("zz" in fault.message for fault in faults)


def test_a_bad_key_is_found_by_its_line() -> None:
    assert [fault.line for fault in check_psk_file(b"a:ab\n\nb:-\nc:cd\nd:+")] == [3, 5]
