"""Where a mosquitto is found, and what of our environment it may know."""

import os
from pathlib import Path

import pytest

from plantops_cli.mosquitto.broker.executable import SYSTEM_FOLDERS, find_mosquitto, harmless_environment
from tests.support.without_mosquitto import run_without_mosquitto

LOOK = "from plantops_cli.mosquitto.broker.executable import find_mosquitto\nprint(find_mosquitto())"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide a folder from a process")


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    program = tmp_path / "mosquitto"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


def test_the_one_on_path_comes_first(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(stand_in.parent))
    assert find_mosquitto() == str(stand_in)


def test_its_path_is_absolute_although_path_may_not_be(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stand_in.parent)
    monkeypatch.setenv("PATH", ".")
    found = find_mosquitto()
    assert found is not None
    assert Path(found).is_absolute()
    assert Path(found).samefile(stand_in)


def test_it_is_found_in_the_folders_of_administrators_without_any_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = find_mosquitto()
    assert found is not None
    assert str(Path(found).parent) in SYSTEM_FOLDERS


@needs_root
def test_without_one_there_is_none() -> None:
    assert run_without_mosquitto(LOOK) == "None\n"


def test_a_program_of_ours_sees_none_of_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", "hunter2")
    monkeypatch.setenv("LANG", "C.UTF-8")
    environment = harmless_environment()
    assert "hunter2" not in environment.values()
    assert environment["LANG"] == "C.UTF-8"
