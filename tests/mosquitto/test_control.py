"""Brokers that somebody else looks after: real ones, with a stand-in for the program that knows their pid."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantops_cli.errors import ReloadError
from plantops_cli.mosquitto.control import find_broker
from plantops_cli.mosquitto.process import BrokerProcess, NotRunning
from tests.brokers import Mosquitto

ASKED = {
    "systemd": ["systemctl", "show", "--property", "MainPID", "--value", "mosquitto"],
    "systemd:farm@1.service": ["systemctl", "show", "--property", "MainPID", "--value", "farm@1.service"],
    "docker:broker": ["docker", "inspect", "--format", "{{.State.Pid}}", "broker"],
}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    running = Mosquitto(folder)
    running.start()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither systemd nor docker runs where the tests run: what they are asked is what is tested."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", "tulip")
    return folder


def answer(folder: Path, script: str) -> None:
    for name in ("systemctl", "docker"):
        (folder / name).write_text(
            f'#!/bin/sh\necho $(basename $0) "$@" > {folder}/asked\nenv > {folder}/env\n{script}\n'
        )
        (folder / name).chmod(0o755)


@pytest.mark.parametrize("target", ASKED)
def test_the_broker_of_a_unit_or_a_container_is_found_with_its_configuration(
    broker: Mosquitto, stand_ins: Path, target: str
) -> None:
    assert broker.process is not None
    answer(stand_ins, f"echo {broker.process.pid}")
    found = find_broker(target, None)
    try:
        assert isinstance(found.process, BrokerProcess)
        assert found.process.pid == broker.process.pid
        assert found.choose_password_file(None) == broker.folder / "passwords"
        assert (stand_ins / "asked").read_text().split() == ASKED[target]
        assert "tulip" not in (stand_ins / "env").read_text()
    finally:
        found.close()


@pytest.mark.parametrize("target", ASKED)
def test_one_that_does_not_run_is_no_reason_to_fail(stand_ins: Path, target: str) -> None:
    answer(stand_ins, "echo 0")
    assert isinstance(find_broker(target, None).process, NotRunning)


@pytest.mark.parametrize(
    ("script", "words"), [("echo no such thing >&2; exit 4", "no such thing"), ("echo x", "ValueError")]
)
def test_an_answer_that_is_none_is_told(stand_ins: Path, script: str, words: str) -> None:
    answer(stand_ins, script)
    with pytest.raises(ReloadError, match=words):
        find_broker("systemd", None)
