"""The fixtures that pytest finds when plantops is installed; nothing else is loaded until a test asks for one."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from plantops_cli.testing import Mosquitto


@pytest.fixture
def mosquitto_broker(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Mosquitto]":
    """Run a real Mosquitto for one test, on a free port of 127.0.0.1.

    It lets everybody in until ``login`` is called, and keeps durable sessions and retained messages across
    ``stop``, ``start`` and ``restart``. A Mosquitto that is not installed fails the test.
    """
    from plantops_cli.errors import ConfigError
    from plantops_cli.testing import Mosquitto

    broker = Mosquitto(tmp_path_factory.mktemp("mosquitto"), is_persistent=True)
    try:
        broker.start()
    except ConfigError as exc:
        pytest.fail(str(exc), pytrace=False)
    yield broker
    broker.stop()
