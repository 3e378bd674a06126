"""Reloads that a check by path and by our own eyes would get wrong: other users, other mounts, other keys."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from plantops_cli.errors import BrokerFileError, ConfigError, ProofError
from plantops_cli.mosquitto.broker.broker import Broker, find_broker
from plantops_cli.mosquitto.broker.preflight import check_reload, may
from plantops_cli.mosquitto.broker.process import BrokerProcess, BrokerUser
from plantops_cli.mosquitto.files.conf_file import read_config
from plantops_cli.mosquitto.files.password_file import provision_user
from plantops_cli.mosquitto.provisioning import Request, provision
from plantops_cli.stream.options import ConnectOptions
from tests.mosquitto.conftest import Mosquitto
from tests.support.brokers import free_port

USER, PASSWORD = "alice", b"tulip"
ACCEPTED, REFUSED = 0, 5
V20 = (2, 0)
SECONDS = 10.0

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

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can mount, and start a broker of another user"
)

Start = Callable[..., Mosquitto]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the user mosquitto can reach, which tmp_path is not."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    with ExitStack() as running:

        def launch(*prefix: str, allow_anonymous: str = "false") -> Mosquitto:
            broker = _launch(folder, prefix, allow_anonymous)
            running.callback(_stop, broker.process)
            _wait_until(lambda: _answers(broker.port))
            return broker

        yield launch


def _launch(folder: Path, prefix: tuple[str, ...], allow_anonymous: str) -> Mosquitto:
    port = free_port()
    passwords = folder / "passwords"
    account = pwd.getpwnam("mosquitto")
    provision_user(passwords, USER, PASSWORD, iterations=1000)
    os.chown(passwords, account.pw_uid, account.pw_gid)
    (folder / "run").mkdir()
    os.chown(folder / "run", account.pw_uid, account.pw_gid)
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nuser mosquitto\nallow_anonymous {allow_anonymous}\npersistence false\n"
        f"password_file {passwords}\npid_file {folder / 'run' / 'pid'}\n"
    )
    executable = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
    assert executable
    quiet = subprocess.DEVNULL
    command = [*prefix, executable, "-c", str(config)]
    return Mosquitto(subprocess.Popen(command, stdout=quiet, stderr=quiet), port)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(timeout=SECONDS)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def found(folder: Path) -> Broker:
    broker = find_broker(None, folder / "mosquitto.conf")
    assert isinstance(broker.process, BrokerProcess), broker.process
    return broker


def mounting(source: Path, target: Path) -> tuple[str, ...]:
    """A command line before the broker's, for mounts that only the broker sees."""
    return ("unshare", "--mount", "sh", "-ec", f'mount --bind {source} {target}; exec "$@"', "sh")


def check(broker: Broker, contents: dict[Path, bytes] | None = None) -> tuple[str, ...]:
    assert isinstance(broker.process, BrokerProcess)
    assert broker.config is not None
    return check_reload(
        broker.config, contents=contents or {}, reader=broker.process.user, version=V20, locate=broker.locate
    )


@needs_root
def test_an_unreadable_password_file_lets_everybody_in_at_a_reload_and_is_refused(
    folder: Path, start: Start
) -> None:
    mosquitto = start(allow_anonymous="true")
    assert mosquitto.connack("mallory", b"?") == REFUSED
    broker = found(folder)
    assert check(broker) == ()
    os.chown(folder / "passwords", 0, 0)
    with pytest.raises(BrokerFileError, match=r"passwords' cannot be read by uid \d+.* let everybody in"):
        check(broker)
    broker.tell()
    _wait_until(lambda: mosquitto.connack("mallory", b"?") == ACCEPTED)
    broker.close()


@needs_root
def test_a_new_file_that_the_broker_could_not_read_is_refused_before_it_is_made(
    folder: Path, start: Start
) -> None:
    start(allow_anonymous="true")
    (folder / "passwords").unlink()
    broker = found(folder)
    with pytest.raises(BrokerFileError, match="would be made for uid 0"):
        check(broker, {folder / "passwords": b""})
    assert isinstance(broker.process, BrokerProcess)
    assert broker.config is not None
    user = broker.process.user
    check_reload(
        broker.config,
        contents={folder / "passwords": b""},
        reader=user,
        version=V20,
        locate=broker.locate,
        new_file_owner=(user.uid, user.gid),
    )
    broker.close()


@needs_root
def test_a_broker_with_mounts_of_its_own_is_judged_by_its_own_view(folder: Path, start: Start) -> None:
    (folder / "hidden").mkdir(mode=0o700)
    (folder / "hidden" / "file").touch()
    start("unshare", "--mount")
    broker = found(folder)
    assert isinstance(broker.process, BrokerProcess)
    assert broker.process.is_in_another_view
    assert check(broker) == ()
    os.chown(folder / "passwords", 0, 0)
    with pytest.raises(BrokerFileError, match="cannot be read by uid"):
        check(broker)
    broker.close()


@needs_root
def test_a_file_of_the_same_name_on_our_side_is_not_the_one_that_the_broker_reads(
    folder: Path, start: Start
) -> None:
    passwords, theirs = folder / "passwords", folder / "theirs"
    theirs.touch()
    start(*mounting(theirs, passwords))
    broker = found(folder)
    assert broker.choose_password_file(theirs) == theirs
    with pytest.raises(ConfigError, match="the broker reads"):
        broker.choose_password_file(passwords)
    broker.close()


@needs_root
def test_a_file_mounted_by_itself_and_replaced_is_seen_to_be_the_old_one(folder: Path, start: Start) -> None:
    passwords, ours = folder / "passwords", folder / "ours"
    account = pwd.getpwnam("mosquitto")
    provision_user(ours, USER, PASSWORD, iterations=1000)
    os.chown(ours, account.pw_uid, account.pw_gid)
    mosquitto = start(*mounting(ours, passwords))
    broker = found(folder)
    assert broker.pinned_files() == ()
    provision_user(ours, "bob", b"rose", iterations=1000)
    broker.tell()
    assert broker.has_survived()
    assert mosquitto.connack("bob", b"rose") == REFUSED
    assert broker.pinned_files() == (str(passwords),)
    broker.close()


@needs_root
def test_a_login_refused_because_of_such_a_file_is_explained(folder: Path, start: Start) -> None:
    passwords, ours = folder / "passwords", folder / "ours"
    account = pwd.getpwnam("mosquitto")
    provision_user(ours, USER, PASSWORD, iterations=1000)
    os.chown(ours, account.pw_uid, account.pw_gid)
    mosquitto = start(*mounting(ours, passwords))
    address = ConnectOptions(host="127.0.0.1", port=mosquitto.port)
    outcome = provision(
        Request(
            username="bob",
            password=b"rose",
            password_file=ours,
            config=folder / "mosquitto.conf",
            address=address,
            iterations=1000,
        )
    )
    assert isinstance(outcome.failure, ProofError)
    assert f"still sees the old {str(passwords)!r}, mounted by itself" in str(outcome.failure)


@needs_root
def test_a_new_user_may_come_in_after_a_reload_that_the_broker_survives(folder: Path, start: Start) -> None:
    mosquitto = start()
    broker = found(folder)
    provision_user(folder / "passwords", "bob", b"rose", iterations=1000)
    assert check(broker) == ()
    assert broker.tell()
    assert broker.has_survived()
    assert mosquitto.connack("bob", b"rose") == ACCEPTED
    broker.close()


@needs_root
def test_a_broker_that_ends_at_the_reload_is_seen_to_have_ended(folder: Path, start: Start) -> None:
    mosquitto = start()
    broker = found(folder)
    broker.tell()
    mosquitto.process.send_signal(signal.SIGKILL)
    assert not broker.has_survived()
    broker.close()


@needs_root
def test_a_stale_pid_file_costs_no_other_process_its_life(folder: Path, start: Start) -> None:
    start()
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        (folder / "run" / "pid").write_text(str(sleeper.pid))
        broker = find_broker(None, folder / "mosquitto.conf")
        assert not broker.tell()
        time.sleep(0.1)
        assert sleeper.poll() is None
        sleeper.kill()


@needs_root
def test_who_cannot_look_is_told_so_in_one_line(folder: Path) -> None:
    (folder / "closed").mkdir(mode=0o700)
    (folder / "closed" / "passwords").touch()
    (folder / "mosquitto.conf").write_text(f"listener 1883\npassword_file {folder / 'closed' / 'passwords'}\n")
    done = subprocess.run(
        [sys.executable, "-c", CHECK_AS_NOBODY, str(folder / "mosquitto.conf")],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
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
