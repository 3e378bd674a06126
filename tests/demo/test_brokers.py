"""The brokers of the demo: who is let in, and what of them is left at the end."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from plantops_cli.demo.brokers import DemoBroker, mosquitto_broker
from plantops_cli.errors import ConfigError
from tests.support import wire

ROOT = Path(__file__).parent.parent.parent


async def test_the_right_password_is_let_in(broker: DemoBroker) -> None:
    assert await wire.connack_code(broker.port, b"plantops_backend", b"right") == 0


@pytest.mark.parametrize(
    ("username", "password"),
    [
        (b"plantops_backend", b"wrong"),
        (b"plantops_backend", b""),
        (b"nobody", b"right"),
        (b"plantops_backend", None),
        (None, None),
    ],
)
async def test_anybody_else_is_refused(broker: DemoBroker, username: bytes | None, password: bytes | None) -> None:
    assert await wire.connack_code(broker.port, username, password) in (4, 5)


async def test_a_broker_is_named_and_listens_on_loopback(broker: DemoBroker) -> None:
    assert broker.host == "127.0.0.1"
    assert broker.name.removeprefix("embedded ").split()[0] in ("amqtt", "mosquitto")
    assert broker.name[-1].isdigit()


def test_without_the_extra_the_hint_says_what_to_install() -> None:
    script = (
        "import asyncio, sys; sys.modules['amqtt'] = None\n"
        "from pathlib import Path\n"
        "from plantops_cli.demo.brokers import embedded_broker\n"
        "from plantops_cli.errors import ConfigError\n"
        "async def main():\n"
        "    async with embedded_broker(Path('x')): pass\n"
        "try: asyncio.run(main())\n"
        "except ConfigError as exc: print(exc.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "pip install 'plantops-cli[demo]'\n", done.stderr


async def test_a_stopped_mosquitto_is_gone(mosquitto: str, password_file: Path, tmp_path: Path) -> None:
    async with mosquitto_broker(mosquitto, password_file, directory=tmp_path) as broker:
        pass
    with pytest.raises(OSError, match=str(broker.port)):
        await asyncio.open_connection(broker.host, broker.port)
    assert (tmp_path / "mosquitto.log").read_text().endswith("terminating\n")


async def test_a_cancelled_mosquitto_is_gone(mosquitto: str, password_file: Path, tmp_path: Path) -> None:
    ports = []

    async def serve() -> None:
        async with mosquitto_broker(mosquitto, password_file, directory=tmp_path) as broker:
            ports.append(broker.port)
            await asyncio.Event().wait()

    serving = asyncio.create_task(serve())
    async with asyncio.timeout(20):
        while not ports:
            await asyncio.sleep(0.01)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(OSError, match=str(ports[0])):
        await asyncio.open_connection("127.0.0.1", ports[0])


async def test_a_mosquitto_that_does_not_start_is_quoted(mosquitto: str, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(ConfigError, match=r"does not start: .*[Ee]rror"):
        async with mosquitto_broker(mosquitto, missing, directory=tmp_path):
            pass


async def test_an_executable_that_is_none_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be run"):
        async with mosquitto_broker(str(tmp_path), tmp_path, directory=tmp_path):
            pass


async def test_a_mosquitto_of_ours_sees_none_of_our_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", "hunter2")
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nenv > {tmp_path}/seen\n")
    program.chmod(0o755)
    with pytest.raises(ConfigError, match="does not start"):
        async with mosquitto_broker(str(program), tmp_path, directory=tmp_path):
            pass
    assert "PATH=" in (tmp_path / "seen").read_text()
    assert "hunter2" not in (tmp_path / "seen").read_text()
