"""What the tests of the stream share."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from tests.support.subscribing import eventually


@pytest.fixture(autouse=True)
async def nothing_left_behind(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Fail a test that leaves a task, or of which asyncio has to complain."""
    yield
    await eventually(lambda: not asyncio.all_tasks() - {asyncio.current_task()})
    complaints = [r.getMessage() for r in caplog.get_records("call") if r.name == "asyncio"]
    assert not [text for text in complaints if not text.startswith("Using selector")]


@pytest.fixture(autouse=True)
def steps_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Let the tests see what the stream says of itself."""
    caplog.set_level(logging.INFO)
