"""Mosquitto's password file on disk, and what a real broker makes of it."""

import fcntl
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantops_cli.errors import ConfigError, PasswordFileChangedError, PasswordFileError
from plantops_cli.mosquitto.password_file import Action, Provisioned, provision_user
from plantops_cli.mosquitto.passwords import find_entry, hash_password, verify_password
from tests.mosquitto.conftest import StartMosquitto

USER = "plantops_backend"
PASSWORD = b"correct horse battery staple"
ALICE = f"# the gardeners\nalice:{hash_password(b'tulip', iterations=1)}\n".encode()
ACCEPTED, REFUSED = 0, 5

PROVISION = """
import sys
from pathlib import Path
from plantops_cli.mosquitto.password_file import provision_user
provision_user(Path(sys.argv[1]), sys.argv[2], b"pw of " + sys.argv[2].encode(), iterations=1000)
"""
PROVISION_FOR_EVER = """
import itertools, sys
from pathlib import Path
from plantops_cli.mosquitto.password_file import provision_user
for number in itertools.count():
    provision_user(Path(sys.argv[1]), "plantops_backend", b"%d" % number, iterations=1)
    print(number, flush=True)
"""
PROVISION_LIMITED = """
import resource, sys
from pathlib import Path
from plantops_cli.errors import PasswordFileError
from plantops_cli.mosquitto.password_file import provision_user
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    provision_user(Path(sys.argv[1]), "plantops_backend", b"x")
except PasswordFileError as exc:
    print(exc)
"""
PROVISION_AS_NOBODY = """
import os, sys
from pathlib import Path
from plantops_cli.errors import PasswordFileError
from plantops_cli.mosquitto.password_file import provision_user
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    provision_user(Path(sys.argv[1]), "plantops_backend", b"x")
except PasswordFileError as exc:
    print(exc)
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture(autouse=True)
def package_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    # the processes started here run in a folder of the test's, and the package need not be installed
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    return folder / "passwd"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    # tmp_path is closed to other users
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def provision(path: Path, password: bytes = PASSWORD, *, overwrite: bool = True) -> Provisioned:
    return provision_user(path, USER, password, overwrite=overwrite, iterations=1000)


def run(script: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def logs_in(path: Path, username: str, password: bytes) -> bool:
    entry = find_entry(path.read_bytes(), username)
    return entry is not None and verify_password(password, entry)


def identity(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def leftovers(path: Path) -> list[str]:
    return sorted(
        item.name for item in path.parent.iterdir() if item.name not in (path.name, f".{path.name}.lock")
    )


def test_a_missing_file_is_made_for_its_owner_alone(path: Path) -> None:
    assert provision(path) == Provisioned(Action.CREATED, path, USER, password_matches=True, is_new_file=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert logs_in(path, USER, PASSWORD)


def test_a_new_user_is_added_and_the_rest_is_kept(path: Path) -> None:
    path.write_bytes(ALICE)
    outcome = provision(path)
    assert (outcome.action, outcome.is_new_file) == (Action.CREATED, False)
    assert path.read_bytes().startswith(ALICE)
    assert logs_in(path, USER, PASSWORD)


def test_a_user_with_another_password_is_updated(path: Path) -> None:
    provision(path, b"old")
    assert provision(path).action is Action.UPDATED
    assert logs_in(path, USER, PASSWORD)


def test_the_same_password_writes_nothing_at_all(path: Path) -> None:
    provision(path)
    before = identity(path)
    assert provision(path) == Provisioned(Action.UNCHANGED, path, USER, password_matches=True, is_new_file=False)
    assert identity(path) == before


def test_an_existing_user_is_left_alone_when_asked_to_and_the_drift_is_told(path: Path) -> None:
    provision(path, b"old")
    before = identity(path)
    assert provision(path, overwrite=False) == Provisioned(
        Action.UNCHANGED, path, USER, password_matches=False, is_new_file=False
    )
    assert provision(path, b"old", overwrite=False).password_matches
    assert identity(path) == before


def test_a_missing_user_is_created_even_without_overwriting(path: Path) -> None:
    path.write_bytes(ALICE)
    assert provision(path, overwrite=False).action is Action.CREATED


def test_mode_and_symbolic_link_are_kept(path: Path) -> None:
    path.write_bytes(ALICE)
    path.chmod(0o640)
    link = path.with_name("link")
    link.symlink_to(path.name)
    provision(link)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert logs_in(path, USER, PASSWORD)


@needs_root
def test_owner_and_group_are_kept(path: Path) -> None:
    path.write_bytes(ALICE)
    os.chown(path, 12_345, 23_456)
    provision(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12_345, 23_456)


@needs_root
def test_a_file_whose_owner_would_change_is_refused(open_folder: Path) -> None:
    path = open_folder / "passwd"
    path.write_bytes(ALICE)
    path.chmod(0o644)
    assert "belongs to uid 0" in run(PROVISION_AS_NOBODY, path)
    assert path.read_bytes() == ALICE
    assert leftovers(path) == []


def test_nothing_but_the_file_and_its_lock_is_left_behind(path: Path) -> None:
    provision(path, b"old")
    provision(path)
    assert leftovers(path) == []


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + ALICE, ALICE + b"\0", b"listener 1883\n"])
def test_what_is_no_password_file_is_refused_and_kept(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(PasswordFileError, match=r"passwd.*line \d"):
        provision(path)
    assert path.read_bytes() == content


def test_a_folder_is_refused_with_the_reason_why_it_may_be_one(path: Path) -> None:
    path.mkdir()
    with pytest.raises(PasswordFileError, match="directory") as refused:
        provision(path)
    assert "docker" in (refused.value.hint or "")


def test_a_missing_folder_is_refused(path: Path) -> None:
    with pytest.raises(PasswordFileError, match="No such file") as refused:
        provision(path.parent / "none" / "passwd")
    assert "folder must exist" in (refused.value.hint or "")


def test_a_fifo_is_refused_without_waiting_for_a_writer(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(PasswordFileError, match="not a regular file"):
        provision(path)


def test_a_dangling_link_is_refused_and_its_target_not_made(path: Path) -> None:
    path.symlink_to("elsewhere")
    with pytest.raises(PasswordFileError, match="does not exist"):
        provision(path)
    assert not path.with_name("elsewhere").exists()


def test_a_link_to_itself_is_refused(path: Path) -> None:
    path.symlink_to(path)
    with pytest.raises(PasswordFileError, match="symbolic link"):
        provision(path)


def test_a_file_with_a_second_hard_link_is_refused(path: Path) -> None:
    path.write_bytes(ALICE)
    path.with_name("second").hardlink_to(path)
    with pytest.raises(PasswordFileError, match="2 hard links"):
        provision(path)


@pytest.mark.parametrize(("username", "password"), [("a:b", b"x"), ("", b"x"), ("alice", b""), ("alice", b"a\0b")])
def test_a_login_that_cannot_work_is_refused_before_anything_is_made(
    path: Path, username: str, password: bytes
) -> None:
    with pytest.raises(ConfigError):
        provision_user(path, username, password)
    assert not path.exists()
    assert leftovers(path) == []


def test_a_full_disk_leaves_the_file_as_it_was(path: Path) -> None:
    path.write_bytes(ALICE)
    before = identity(path)
    assert "File too large" in run(PROVISION_LIMITED, path)
    assert path.read_bytes() == ALICE
    assert identity(path) == before
    assert leftovers(path) == []


def test_twenty_runs_at_once_lose_no_user(path: Path) -> None:
    path.write_bytes(ALICE)
    users = [f"user{number}" for number in range(20)]
    runs = [subprocess.Popen([sys.executable, "-c", PROVISION, path, user]) for user in users]
    assert [process.wait(timeout=60) for process in runs] == [0] * 20
    assert path.read_bytes().startswith(ALICE)
    assert [user for user in users if not logs_in(path, user, f"pw of {user}".encode())] == []


def test_a_run_that_is_killed_leaves_the_old_file_or_the_new_one(path: Path) -> None:
    path.write_bytes(ALICE)
    for milliseconds in range(0, 20, 2):
        with subprocess.Popen([sys.executable, "-c", PROVISION_FOR_EVER, path], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(milliseconds / 1000)
            process.kill()
            last = [0, *map(int, process.stdout.read().split())][-1]
        assert path.read_bytes().startswith(ALICE)
        assert path.read_bytes().count(b"\n") == ALICE.count(b"\n") + 1
        assert any(logs_in(path, USER, b"%d" % number) for number in (last, last + 1))


def test_a_lock_that_is_not_released_ends_in_an_error(path: Path) -> None:
    with path.with_name(".passwd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PasswordFileError, match="locked"):
            provision_user(path, USER, PASSWORD, lock_timeout_seconds=0.1)
    assert not path.exists()


def test_the_lock_of_a_dead_run_does_not_count(path: Path) -> None:
    path.with_name(".passwd.lock").touch()
    assert provision(path).action is Action.CREATED


def test_a_line_that_another_program_adds_meanwhile_survives(path: Path) -> None:
    path.write_bytes(ALICE)
    slow = threading.Thread(target=provision_user, args=(path, USER, PASSWORD), kwargs={"iterations": 300_000})
    slow.start()
    while not path.with_name(".passwd.lock").exists():
        time.sleep(0.001)
    with path.open("ab") as file:
        file.write(b"# added\n")
    slow.join()
    assert path.read_bytes().startswith(ALICE + b"# added\n")
    assert logs_in(path, USER, PASSWORD)


def test_a_file_that_never_stands_still_is_not_replaced(path: Path) -> None:
    path.write_bytes(ALICE)
    done = threading.Event()

    def touch() -> None:
        while not done.wait(0.001):
            path.touch()

    restless = threading.Thread(target=touch)
    restless.start()
    try:
        with pytest.raises(PasswordFileChangedError):
            provision_user(path, USER, PASSWORD, iterations=200_000)
    finally:
        done.set()
        restless.join()
    assert path.read_bytes() == ALICE
    assert leftovers(path) == []


def test_no_error_and_no_outcome_shows_the_password_or_a_hash(path: Path) -> None:
    shown = repr(provision(path))
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(PasswordFileError) as refused:
        provision(path)
    shown += f"{refused.value!r} {refused.value.hint}"
    assert PASSWORD.decode() not in shown
    assert "$7$" not in shown


def test_a_real_broker_accepts_the_login_and_refuses_a_wrong_password(
    path: Path, start_mosquitto: StartMosquitto
) -> None:
    path.write_bytes(ALICE)
    provision(path)
    broker = start_mosquitto(path)
    assert broker.connack(USER, PASSWORD) == ACCEPTED
    assert broker.connack(USER, PASSWORD + b"x") == REFUSED
    assert broker.connack("alice", b"tulip") == ACCEPTED


@pytest.mark.parametrize("password", [b"  blanks  ", b"\xff\xfe\x80", "pä$$:#☃".encode(), b"x" * 65_535])
def test_a_real_broker_accepts_odd_passwords(path: Path, start_mosquitto: StartMosquitto, password: bytes) -> None:
    provision(path, password)
    assert start_mosquitto(path).connack(USER, password) == ACCEPTED


@pytest.mark.parametrize("username", ["gärtner", "a b", "o'neil/x", "名前"])
def test_a_real_broker_accepts_odd_user_names(path: Path, start_mosquitto: StartMosquitto, username: str) -> None:
    provision_user(path, username, PASSWORD, iterations=1000)
    assert start_mosquitto(path).connack(username, PASSWORD) == ACCEPTED


def test_a_running_broker_takes_the_new_password_after_sighup(path: Path, start_mosquitto: StartMosquitto) -> None:
    provision(path, b"old")
    broker = start_mosquitto(path)
    provision(path)
    assert broker.connack(USER, b"old") == ACCEPTED
    broker.reload()
    deadline = time.monotonic() + 10
    while broker.connack(USER, PASSWORD) != ACCEPTED and time.monotonic() < deadline:
        time.sleep(0.02)
    assert broker.connack(USER, PASSWORD) == ACCEPTED
    assert broker.connack(USER, b"old") == REFUSED
