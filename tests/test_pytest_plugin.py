"""The pytest plugin: a real broker for a test, and no cost for a test that asks for none."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from plantops_cli import Message, MQTTSubscriber
from plantops_cli.testing import Mosquitto
from tests.support.subscribing import eventually
from tests.test_architecture import loaded_by


async def test_the_fixture_is_a_real_broker(mosquitto_broker: Mosquitto) -> None:
    heard: list[Message] = []
    mqtt = MQTTSubscriber(mosquitto_broker.host, mosquitto_broker.port)
    mqtt.register_handler("a", heard.append)
    async with mqtt:
        await mqtt.start()
        assert mqtt.client is not None
        await mqtt.client.publish("a", b"7", qos=1)
        await eventually(lambda: heard)
        mosquitto_broker.restart()
        await eventually(lambda: mqtt.health.outages and mqtt.health.state == "connected")


def run_pytest(folder: Path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder, with the plugins that are installed."""
    environment = {} if path is None else {"PATH": path}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """The tests of a program, which know nothing of ours."""
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings =\n    error\n"
        "    ignore:The configuration option .asyncio_default_fixture_loop_scope. is unset\n"
    )
    (tmp_path / "test_program.py").write_text(
        "from plantops_cli.testing import testing\n"
        "def test_ping(mosquitto_broker):\n    assert mosquitto_broker.process.poll() is None\n"
        "def test_pong(mosquitto_broker):\n    assert mosquitto_broker.port > 0\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    "arguments", [(), ("-n", "2"), ("-p", "no:asyncio"), ("-p", "no:xdist", "-p", "no:timeout")]
)
def test_the_plugin_lives_with_others_and_without_them(suite: Path, arguments: tuple[str, ...]) -> None:
    done = run_pytest(suite, *arguments)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_without_the_plugin_there_is_no_fixture(suite: Path) -> None:
    assert "fixture 'mosquitto_broker' not found" in run_pytest(suite, "-p", "no:plantops").stdout


def test_the_fixture_is_listed_with_what_it_does(suite: Path) -> None:
    assert "Run a real Mosquitto for one test" in run_pytest(suite, "--fixtures").stdout


def test_the_entry_point_is_installed() -> None:
    (found,) = [each for each in entry_points(group="pytest11") if each.name == "plantops"]
    assert found.value == "plantops_cli.pytest_plugin"


def test_the_plugin_loads_nothing_but_pytest() -> None:
    loaded = loaded_by("-c", "import plantops_cli.pytest_plugin")
    ours = {name for name in loaded if name.startswith("plantops_cli")}
    assert ours == {"plantops_cli", "plantops_cli.pytest_plugin"}
    assert not loaded & {"aiomqtt", "paho", "pydantic", "orjson", "asyncio"}


def test_the_test_kit_loads_no_pytest() -> None:
    loaded = loaded_by("-c", "import plantops_cli.testing")
    assert "plantops_cli.testing.in_memory" in loaded
    assert not loaded & {"pytest", "_pytest"}
