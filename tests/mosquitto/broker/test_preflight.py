"""What a reload would trip over, shown on a real broker first and refused then."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.broker.broker import Broker
from plantops_cli.mosquitto.broker.preflight import check_reload, is_readable, may
from plantops_cli.mosquitto.broker.process import BrokerProcess, BrokerUser
from plantops_cli.mosquitto.broker.proof import LoginAnswer, log_in, probe_acl, with_wrong_password
from plantops_cli.mosquitto.files.conf_file import read_config
from plantops_cli.mosquitto.files.password_file import write_user
from plantops_cli.mosquitto.text.hashing import hash_password
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from tests.mosquitto.conftest import StartUnprivileged
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.unprivileged_broker import ACCEPTED, REFUSED, found

SECONDS = 10.0
V20, V21 = (2, 0), (2, 1)
ME = BrokerUser(os.geteuid(), os.getegid())
NOBODY = BrokerUser(65_534, 65_534)
ALICE = f"alice:{hash_password(b'tulip', iterations=1000)}\n".encode()

CHECK_AS_NOBODY = """
import os, sys
from pathlib import Path
from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.files.conf_file import read_config
from plantops_cli.mosquitto.broker.preflight import check_reload
from plantops_cli.mosquitto.broker.process import BrokerUser
config = read_config(Path(sys.argv[1]))
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    check_reload(config, contents={}, reader=BrokerUser(1234, 1234), version=(2, 0), locate=Path)
except BrokerFileError as exc:
    print(exc)
"""

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


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def reload(broker: Mosquitto) -> None:
    assert broker.process is not None
    broker.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)


def check(folder: Path, *, version: tuple[int, int] | None = V20, reader: BrokerUser = ME) -> tuple[str, ...]:
    config = read_config(folder / "mosquitto.conf")
    return check_reload(config, contents={}, reader=reader, version=version, locate=Path)


def check_running(broker: Broker, contents: dict[Path, bytes] | None = None) -> tuple[str, ...]:
    assert isinstance(broker.process, BrokerProcess)
    assert broker.config is not None
    return check_reload(
        broker.config, contents=contents or {}, reader=broker.process.user, version=V20, locate=broker.locate
    )


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


def test_a_broker_whose_capabilities_let_it_read_every_file_is_not_asked_for_rights(tmp_path: Path) -> None:
    (tmp_path / "closed").touch(mode=0)
    assert is_readable(tmp_path / "closed", BrokerUser(1234, 1234, reads_all=True))


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


@needs_root
def test_an_unreadable_password_file_lets_everybody_in_at_a_reload_and_is_refused(
    reachable_folder: Path, start_unprivileged: StartUnprivileged
) -> None:
    mosquitto = start_unprivileged(allow_anonymous="true")
    assert mosquitto.connack("mallory", b"?") == REFUSED
    broker = found(reachable_folder)
    assert check_running(broker) == ()
    os.chown(reachable_folder / "passwords", 0, 0)
    with pytest.raises(BrokerFileError, match=r"passwords' cannot be read by uid \d+.* let everybody in"):
        check_running(broker)
    broker.tell()
    wait_until(lambda: mosquitto.connack("mallory", b"?") == ACCEPTED)
    broker.close()


@needs_root
def test_a_new_file_that_the_broker_could_not_read_is_refused_before_it_is_made(
    reachable_folder: Path, start_unprivileged: StartUnprivileged
) -> None:
    start_unprivileged(allow_anonymous="true")
    (reachable_folder / "passwords").unlink()
    broker = found(reachable_folder)
    with pytest.raises(BrokerFileError, match="would be made for uid 0"):
        check_running(broker, {reachable_folder / "passwords": b""})
    assert isinstance(broker.process, BrokerProcess)
    assert broker.config is not None
    user = broker.process.user
    check_reload(
        broker.config,
        contents={reachable_folder / "passwords": b""},
        reader=user,
        version=V20,
        locate=broker.locate,
        new_file_owner=(user.uid, user.gid),
    )
    broker.close()


@needs_root
def test_a_broker_with_mounts_of_its_own_is_judged_by_its_own_view(
    reachable_folder: Path, start_unprivileged: StartUnprivileged
) -> None:
    (reachable_folder / "hidden").mkdir(mode=0o700)
    (reachable_folder / "hidden" / "file").touch()
    start_unprivileged("unshare", "--mount")
    broker = found(reachable_folder)
    assert isinstance(broker.process, BrokerProcess)
    assert broker.process.is_in_another_view
    assert check_running(broker) == ()
    os.chown(reachable_folder / "passwords", 0, 0)
    with pytest.raises(BrokerFileError, match="cannot be read by uid"):
        check_running(broker)
    broker.close()


@needs_root
def test_a_new_user_may_come_in_after_a_reload_that_the_broker_survives(
    reachable_folder: Path, start_unprivileged: StartUnprivileged
) -> None:
    mosquitto = start_unprivileged()
    broker = found(reachable_folder)
    write_user(reachable_folder / "passwords", "bob", b"rose", iterations=1000)
    assert check_running(broker) == ()
    assert broker.tell()
    assert broker.has_survived()
    assert mosquitto.connack("bob", b"rose") == ACCEPTED
    broker.close()


@needs_root
def test_who_cannot_look_is_told_so_in_one_line(reachable_folder: Path) -> None:
    (reachable_folder / "closed").mkdir(mode=0o700)
    (reachable_folder / "closed" / "passwords").touch()
    (reachable_folder / "mosquitto.conf").write_text(
        f"listener 1883\npassword_file {reachable_folder / 'closed' / 'passwords'}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", CHECK_AS_NOBODY, str(reachable_folder / "mosquitto.conf")],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert "cannot be checked: Permission denied" in done.stdout, done.stderr


def test_a_bad_psk_file_and_a_folder_in_place_of_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "psk").write_text("a:zz\n")
    (tmp_path / "mosquitto.conf").write_text(f"listener 1883\npsk_file {tmp_path / 'psk'}\n")
    config = read_config(tmp_path / "mosquitto.conf")
    me = BrokerUser(os.geteuid(), os.getegid())
    with pytest.raises(BrokerFileError, match="psk', line 1: the key is not hexadecimal"):
        check_reload(config, contents={}, reader=me, version=V20, locate=Path)
    (tmp_path / "psk").unlink()
    (tmp_path / "psk").mkdir()
    with pytest.raises(BrokerFileError, match="not a regular file"):
        check_reload(config, contents={}, reader=me, version=V20, locate=Path)


@pytest.mark.parametrize(
    ("user", "mode", "expected"),
    [
        (BrokerUser(7, 7), 0o400, True),
        (BrokerUser(7, 8), 0o044, False),  # the owner's bits decide for the owner, even when they say less
        (BrokerUser(1, 8), 0o040, True),
        (BrokerUser(1, 1, (8,)), 0o040, True),
        (BrokerUser(1, 8), 0o004, False),
        (BrokerUser(1, 1), 0o004, True),
        (BrokerUser(1, 1), 0o770, False),
        (BrokerUser(0, 0), 0o000, True),
    ],
)
def test_the_first_class_that_fits_decides_who_may_read(user: BrokerUser, mode: int, expected: bool) -> None:
    status = os.stat_result((mode, 0, 0, 1, 7, 8, 0, 0, 0, 0))
    assert may(user, status, 0o004) is expected
