"""What a reload would trip over, shown on a real broker first and refused then."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.broker.preflight import check_reload, is_readable
from plantops_cli.mosquitto.broker.process import BrokerUser
from plantops_cli.mosquitto.broker.proof import LoginAnswer, log_in, probe_acl, with_wrong_password
from plantops_cli.mosquitto.files.conf_file import read_config
from plantops_cli.mosquitto.text.hashing import hash_password
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto

V20, V21 = (2, 0), (2, 1)
ME = BrokerUser(os.geteuid(), os.getegid())
NOBODY = BrokerUser(65_534, 65_534)
ALICE = f"alice:{hash_password(b'tulip', iterations=1000)}\n".encode()

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as somebody else")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    (folder / "acl").write_text(f"user {USERNAME}\ntopic read devices/+/telemetry\n")
    running = Mosquitto(folder, extra=f"acl_file {folder / 'acl'}")
    running.start()
    yield running
    running.stop()


def login(broker: Mosquitto) -> ConnectOptions:
    return ConnectOptions(
        host="127.0.0.1", port=broker.port, username=USERNAME, password=PASSWORD, mqtt_version=MQTTVersion.V5
    )


def reload(broker: Mosquitto) -> None:
    assert broker.process is not None
    broker.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)


def check(folder: Path, *, version: tuple[int, int] | None = V20, reader: BrokerUser = ME) -> tuple[str, ...]:
    config = read_config(folder / "mosquitto.conf")
    return check_reload(config, contents={}, reader=reader, version=version, locate=Path)


def configured(folder: Path, passwords: bytes, acl: bytes | None = None) -> Path:
    (folder / "passwd").write_bytes(passwords)
    lines = [f"password_file {folder / 'passwd'}"]
    if acl is not None:
        (folder / "acl").write_bytes(acl)
        lines.append(f"acl_file {folder / 'acl'}")
    (folder / "mosquitto.conf").write_text("\n".join(lines))
    return folder


def test_one_bad_line_in_the_acl_file_frees_every_topic_at_a_reload_and_is_refused(broker: Mosquitto) -> None:
    assert asyncio.run(probe_acl(login(broker)))[0] is True
    with (broker.folder / "acl").open("a") as acl:
        acl.write("  # indented\n")
    with pytest.raises(BrokerFileError, match=r"acl', line 3: .*switch off all access control"):
        check(broker.folder)
    reload(broker)
    assert asyncio.run(probe_acl(login(broker)))[0] is False


def test_a_missing_password_file_lets_everybody_in_at_a_reload_and_is_refused(broker: Mosquitto) -> None:
    config = broker.folder / "mosquitto.conf"
    wrong = with_wrong_password(login(broker))
    assert asyncio.run(log_in(wrong)) is LoginAnswer.REFUSED
    config.write_text(config.read_text().replace("allow_anonymous false", "allow_anonymous true"))
    (broker.folder / "passwords").unlink()
    with pytest.raises(BrokerFileError, match="passwords' is missing"):
        check(broker.folder)
    reload(broker)
    assert asyncio.run(log_in(wrong)) is LoginAnswer.ACCEPTED


def test_good_files_are_no_reason_to_hesitate(tmp_path: Path) -> None:
    assert check(configured(tmp_path, ALICE, b"user alice\ntopic read #\n"), version=V21) == ()


@pytest.mark.parametrize("bad", [b"bob:plaintext\n", ALICE, b"bob:\n"])
def test_a_line_that_ends_only_a_newer_broker_is_told_or_refused_by_its_version(
    tmp_path: Path, bad: bytes
) -> None:
    folder = configured(tmp_path, ALICE + bad)
    (notice,) = check(folder, version=V20)
    assert "line 2" in notice
    assert "plaintext" not in notice
    for version in (V21, None):
        with pytest.raises(BrokerFileError, match="line 2"):
            check(folder, version=version)


def test_what_is_about_to_be_written_is_judged_in_place_of_what_is_there(tmp_path: Path) -> None:
    config = read_config(configured(tmp_path, ALICE, b"nonsense\n") / "mosquitto.conf")
    acl = (tmp_path / "acl").resolve()
    good = check_reload(config, contents={acl: b""}, reader=ME, version=V20, locate=Path)
    assert good == ()
    with pytest.raises(BrokerFileError, match="line 1"):
        check_reload(config, contents={acl: b"tabs\tno\n"}, reader=ME, version=V20, locate=Path)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = configured(tmp_path, ALICE)
    (tmp_path / "passwd").unlink()
    os.mkfifo(tmp_path / "passwd")
    with pytest.raises(BrokerFileError, match="not a regular file"):
        check(folder)


@needs_root
def test_a_file_that_the_broker_may_not_read_is_refused(tmp_path: Path) -> None:
    folder = configured(tmp_path, ALICE)
    (tmp_path / "passwd").chmod(0o600)
    with pytest.raises(BrokerFileError, match="cannot be read by uid 65534"):
        check(folder, reader=NOBODY)


@needs_root
@pytest.mark.parametrize(
    ("mode", "folder_mode", "expected"), [(0o644, 0o755, True), (0o640, 0o755, False), (0o644, 0o700, False)]
)
def test_folders_count_too(open_tmp: Path, mode: int, folder_mode: int, expected: bool) -> None:
    file = open_tmp / "file"
    file.touch()
    file.chmod(mode)
    open_tmp.chmod(folder_mode)
    assert is_readable(file, NOBODY) is expected
    assert is_readable(file, BrokerUser(65_534, 65_534, (0,))) is (
        expected or (mode, folder_mode) == (0o640, 0o755)
    )


@pytest.fixture
def open_tmp() -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
