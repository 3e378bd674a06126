"""Brokers that somebody else looks after: real ones, with a stand-in for the program that knows their pid."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantops_cli.errors import ConfigError, ReloadError
from plantops_cli.mosquitto.broker.broker import find_broker
from plantops_cli.mosquitto.broker.process import BrokerProcess, NotRunning
from plantops_cli.mosquitto.files.password_file import write_user
from tests.mosquitto.conftest import StartUnprivileged
from tests.support.brokers import Mosquitto
from tests.support.unprivileged_broker import PASSWORD, REFUSED, USER, found, give_to_broker, mounting

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and start another user's broker")

SHOW = ("show", "--property", "MainPID", "--property", "LoadState")
ASKED = {
    "systemd": ["systemctl", *SHOW, "mosquitto"],
    "systemd:farm@1.service": ["systemctl", *SHOW, "farm@1.service"],
    "docker:broker": ["docker", "inspect", "--format", "MainPID={{.State.Pid}}", "broker"],
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
    answer(stand_ins, f"echo MainPID={broker.process.pid}")
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
    answer(stand_ins, "echo MainPID=0; echo LoadState=loaded")
    assert isinstance(find_broker(target, None).process, NotRunning)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo no such thing >&2; exit 4", "no such thing"),
        ("echo MainPID=x", "no process id"),
        ("exit 0", "no process id"),
    ],
)
def test_an_answer_that_is_none_is_told(stand_ins: Path, script: str, words: str) -> None:
    answer(stand_ins, script)
    with pytest.raises(ReloadError, match=words):
        find_broker("systemd", None)


def test_a_unit_that_systemd_does_not_know_is_no_broker_that_rests(stand_ins: Path) -> None:
    answer(stand_ins, "echo LoadState=not-found; echo MainPID=0")
    with pytest.raises(ConfigError, match="knows no unit 'mosquito'"):
        find_broker("systemd:mosquito", None)


def test_a_broker_below_the_init_of_its_container_is_found(broker: Mosquitto, stand_ins: Path) -> None:
    broker.stop()
    config = broker.folder / "mosquitto.conf"
    with subprocess.Popen(
        ["/bin/sh", "-c", f"mosquitto -c {config} & echo $!; wait"], stdout=subprocess.PIPE
    ) as init:
        assert init.stdout is not None
        pid = int(init.stdout.readline())
        try:
            wait_for_name(pid, "mosquitto")
            answer(stand_ins, f"echo MainPID={init.pid}")
            found = find_broker("docker:broker", None)
            assert isinstance(found.process, BrokerProcess)
            assert found.process.pid == pid
            found.close()
        finally:
            os.kill(pid, signal.SIGTERM)


def test_an_init_without_a_broker_below_it_is_told_by_its_name(stand_ins: Path) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as other:
        try:
            wait_for_name(other.pid, "sleep")
            answer(stand_ins, f"echo MainPID={other.pid}")
            found = find_broker("docker:broker", None).process
        finally:
            other.kill()
    assert isinstance(found, NotRunning)
    assert "'sleep'" in found.reason


def wait_for_name(pid: int, name: str) -> None:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/comm").read_text().strip() != name:
        assert time.monotonic() < deadline, f"process {pid} does not become {name}"
        time.sleep(0.01)


@needs_root
def test_a_file_of_the_same_name_on_our_side_is_not_the_one_that_the_broker_reads(
    reachable_folder: Path, start_unprivileged: StartUnprivileged
) -> None:
    passwords, theirs = reachable_folder / "passwords", reachable_folder / "theirs"
    theirs.touch()
    start_unprivileged(*mounting(theirs, passwords))
    broker = found(reachable_folder)
    assert broker.choose_password_file(theirs) == theirs
    with pytest.raises(ConfigError, match="the broker reads"):
        broker.choose_password_file(passwords)
    broker.close()


@needs_root
def test_a_file_mounted_by_itself_and_replaced_is_seen_to_be_the_old_one(
    reachable_folder: Path, start_unprivileged: StartUnprivileged
) -> None:
    passwords, ours = reachable_folder / "passwords", reachable_folder / "ours"
    write_user(ours, USER, PASSWORD, iterations=1000)
    give_to_broker(ours)
    mosquitto = start_unprivileged(*mounting(ours, passwords))
    broker = found(reachable_folder)
    assert broker.pinned_files() == ()
    write_user(ours, "bob", b"rose", iterations=1000)
    broker.tell()
    assert broker.has_survived()
    assert mosquitto.connack("bob", b"rose") == REFUSED
    assert broker.pinned_files() == (str(passwords),)
    broker.close()


@needs_root
def test_a_broker_that_ends_at_the_reload_is_seen_to_have_ended(
    reachable_folder: Path, start_unprivileged: StartUnprivileged
) -> None:
    mosquitto = start_unprivileged()
    broker = found(reachable_folder)
    broker.tell()
    mosquitto.process.send_signal(signal.SIGKILL)
    assert not broker.has_survived()
    broker.close()


@needs_root
def test_a_stale_pid_file_costs_no_other_process_its_life(
    reachable_folder: Path, start_unprivileged: StartUnprivileged
) -> None:
    start_unprivileged()
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        (reachable_folder / "run" / "pid").write_text(str(sleeper.pid))
        broker = find_broker(None, reachable_folder / "mosquitto.conf")
        assert not broker.tell()
        time.sleep(0.1)
        assert sleeper.poll() is None
        sleeper.kill()
