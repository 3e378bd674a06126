import gc
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from plantops_cli.demo.brokers import DemoBroker, embedded_broker, mosquitto_broker
from plantops_cli.mosquitto.broker.executable import find_mosquitto
from plantops_cli.mosquitto.text.hashing import hash_password


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "pass words"
    path.write_text(f"plantops_backend:{hash_password(b'right', iterations=1000)}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def mosquitto() -> str:
    found = find_mosquitto()
    assert found is not None, "these tests need a Mosquitto broker"
    return found


@pytest.fixture(params=["embedded", "mosquitto"])
async def broker(
    request: pytest.FixtureRequest, mosquitto: str, password_file: Path, tmp_path: Path
) -> AsyncIterator[DemoBroker]:
    running = (
        embedded_broker(password_file)
        if request.param == "embedded"
        else mosquitto_broker(mosquitto, password_file, directory=tmp_path)
    )
    async with running as started:
        yield started


@pytest.fixture
def no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail the test for whatever asyncio or amqtt says: "Task exception was never retrieved" comes by its log."""
    with caplog.at_level(logging.INFO):
        yield
        gc.collect()
    assert [record.getMessage() for record in caplog.records] == []
