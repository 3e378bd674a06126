"""What a running broker shows of its files, on a real one."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from plantops_cli.mosquitto.broker.process import BrokerProcess, find_by_pid_file
from plantops_cli.mosquitto.broker.witness import Witness
from plantops_cli.mosquitto.files.lock import mark_as_read
from tests.support.brokers import Mosquitto
from tests.support.newer_broker import install_newer
from tests.support.password_entries import ARGON2_ENTRY

TICK_SECONDS = 0.05  # the age of a process is known to a hundredth of a second


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "acl").write_text(f"user {name}\n")
    (tmp_path / "now").symlink_to("old")
    (tmp_path / "acl").symlink_to("now/acl")
    (tmp_path / "conf.d").mkdir()
    return tmp_path


@pytest.fixture
def broker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mosquitto]:
    (folder / "bin").mkdir()
    install_newer(folder / "bin")
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    with Mosquitto(folder, extra=f"pid_file {folder / 'pid'}", logins={}) as running:
        time.sleep(TICK_SECONDS)
        yield running


@pytest.fixture
def process(broker: Mosquitto) -> Iterator[BrokerProcess]:
    found = find_by_pid_file(broker.folder / "pid")
    assert isinstance(found, BrokerProcess)
    with closing(found):
        yield found


def repoint(link: Path, target: str) -> None:
    link.unlink()
    link.symlink_to(target)


def test_what_nobody_touched_since_the_start_is_loaded(process: BrokerProcess, folder: Path) -> None:
    witness = Witness(process, (folder / "conf.d",))
    assert [witness.has_loaded(folder / name) for name in ("acl", "old/acl")] == [True, True]


def test_content_rights_and_links_that_changed_since_the_start_are_not_loaded(
    process: BrokerProcess, folder: Path
) -> None:
    witness = Witness(process)
    repoint(folder / "now", "new")
    assert not witness.has_loaded(folder / "acl")
    (folder / "old/acl").chmod(0o600)
    assert not witness.has_loaded(folder / "old/acl")
    old = time.time() - 3600
    (folder / "new/acl").write_text("# other\n")
    os.utime(folder / "new/acl", (old, old))
    assert not witness.has_loaded(folder / "new/acl")
    assert not witness.has_loaded(folder / "missing")


def test_a_file_is_not_loaded_when_what_names_it_changed(process: BrokerProcess, folder: Path) -> None:
    witness = Witness(process, (folder / "conf.d",))
    (folder / "conf.d/more.conf").touch()
    assert not witness.has_loaded(folder / "acl")


def test_a_reload_of_ours_counts_as_reading(process: BrokerProcess, folder: Path) -> None:
    file, lock = folder / "old/acl", folder / "old/.acl.lock"
    file.write_text("# other\n")
    lock.touch()
    os.utime(lock, (0, 0))
    assert not Witness(process).has_loaded(file)
    time.sleep(TICK_SECONDS)
    mark_as_read(file, time.time())
    assert Witness(process).has_loaded(file)
    time.sleep(TICK_SECONDS)
    file.write_text("# another\n")
    assert not Witness(process).has_loaded(file)


def test_the_brokers_own_program_says_what_it_takes(process: BrokerProcess) -> None:
    witness = Witness(process)
    assert process.version() == (2, 1)
    assert witness.takes("password", f"alice:{ARGON2_ENTRY}\n".encode())
    assert witness.takes("acl", b"user alice\ntopic read #\n")
    assert not witness.takes("acl", b"user alice\n  # indented\n")


async def test_it_may_be_asked_inside_an_event_loop(process: BrokerProcess) -> None:
    assert asyncio.get_running_loop().is_running()
    assert Witness(process).takes("acl", b"")


def test_a_program_that_others_may_write_is_not_asked(process: BrokerProcess, folder: Path) -> None:
    (folder / "bin/mosquitto").chmod(0o775)
    assert not Witness(process).takes("acl", b"")
    assert process.version() is None
