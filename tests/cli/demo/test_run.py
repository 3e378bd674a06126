"""The run of the demo, in this process: what ends it, and what is left of it."""

import asyncio
import json
import tempfile
from pathlib import Path

import pytest

from plantops_cli.cli.demo.run import Demonstration
from plantops_cli.cli.listen.run import renderer
from plantops_cli.cli.shared.exits import Exit
from plantops_cli.cli.shared.run import Limits
from plantops_cli.cli.shared.selection import Selection
from plantops_cli.formats.registry import Format


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def demonstration(count: int | None) -> Demonstration:
    limits = Limits(count=count)
    return Demonstration(renderer(Format.JSONL, Selection()), limits, is_embedded=True, is_quiet=True)


async def test_it_ends_at_the_count_and_leaves_nothing_behind(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await demonstration(3).run() is Exit.OK
    lines = capfd.readouterr().out.splitlines()
    assert len([json.loads(line)["device_id"] for line in lines]) == 3
    assert list(folder.iterdir()) == []


async def test_who_is_cancelled_leaves_nothing_behind(folder: Path) -> None:
    running = asyncio.create_task(demonstration(None).run())
    while not list(folder.iterdir()):
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert list(folder.iterdir()) == []
