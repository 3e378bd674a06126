"""Mosquitto's password file on disk, and what a real broker makes of it."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from plantops_cli.errors import BrokerFileBusyError, BrokerFileChangedError, BrokerFileError, ConfigError
from plantops_cli.mosquitto.files.password_file import Provisioned, drop_user, users, write_user
from plantops_cli.mosquitto.files.rewrite import restore
from plantops_cli.mosquitto.text.actions import Action
from plantops_cli.mosquitto.text.hashing import entry_kind, hash_password, verify_password
from plantops_cli.mosquitto.text.passwords import count_entries, find_entry
from tests.mosquitto.conftest import StartMosquitto
from tests.support.password_entries import ARGON2_ENTRY

USER = "plantops_backend"
PASSWORD = b"correct horse battery staple"
ALICE = f"# the gardeners\nalice:{hash_password(b'tulip', iterations=1000)}\n".encode()
ACCEPTED, REFUSED = 0, 5
# of the password s3cr3t: by mosquitto_passwd 2.0.11 -H sha512, and by that of 2.1.2
SHA512 = (
    "$6$J7sbDMZgHws2e//e$DPuDtLsCvQYkGLMB7i9ZbDn4LXY0PqMbdiE5Mf4GBfUE27ljxVyGOeblampreQnZ+bq0jiHfeIBgfA1iJE+Yew=="
)
LONG_SALT = (
    "$7$1000$qhsR/6fHbxQTRb8kmeJmYTxbOdP+MVeuL0CseSb/esBSSFI0yQuhsrIN+gLNk8aSAgBlF32NmtWjXz1vLQ9OyQ=="
    "$XBFafC4hjLUZTmxgZDx8hgQhqIHhYFc+L1gTI1gmLW9n4RzTQkPrLSMys95m4zLGQF3NkTDLSIpt4fc8tWPZRw=="
)

PROVISION = """
import sys
from pathlib import Path
from plantops_cli.mosquitto.files.password_file import write_user
write_user(Path(sys.argv[1]), sys.argv[2], b"pw of " + sys.argv[2].encode(), iterations=1000)
"""
# a child says by a pipe which password it is about to write, and is killed at a moment of its own
KILL_MANY = """
import itertools, os, random, signal, sys, time
from pathlib import Path
from plantops_cli.mosquitto.files.password_file import write_user
from plantops_cli.mosquitto.text.hashing import verify_password
from plantops_cli.mosquitto.text.passwords import find_entry
path = Path(sys.argv[1])
random.seed(0)
last = "0"
write_user(path, "plantops_backend", last.encode(), iterations=1000)
for run in range(int(sys.argv[2])):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        for number in itertools.count():
            password = b"%d.%d" % (run, number)
            os.write(writer, password + b" ")
            write_user(path, "plantops_backend", password, iterations=1000)
    os.close(writer)
    time.sleep(random.uniform(0.0005, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reader) as begun:
        tried = [last, *begun.read().split()][-2:]
    print(path.read_bytes().hex(), ",".join(tried))
    entry = find_entry(path.read_bytes(), "plantops_backend") or ""
    last = next((password for password in tried if verify_password(password.encode(), entry)), last)
"""
PROVISION_LIMITED = """
import resource, sys
from pathlib import Path
from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.files.password_file import write_user
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    write_user(Path(sys.argv[1]), "plantops_backend", b"x")
except BrokerFileError as exc:
    print(exc)
"""
PROVISION_AS_NOBODY = """
import os, sys
from pathlib import Path
from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.files.password_file import write_user
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    write_user(Path(sys.argv[1]), "plantops_backend", b"x")
except BrokerFileError as exc:
    print(exc)
"""

needs_leases = pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


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


def provision(
    path: Path,
    password: bytes = PASSWORD,
    *,
    overwrite: bool = True,
    iterations: int = 1000,
    dry_run: bool = False,
) -> Provisioned:
    return write_user(path, USER, password, overwrite=overwrite, iterations=iterations, dry_run=dry_run)


def told(outcome: Provisioned) -> tuple[Action, bool | None, bool]:
    return outcome.action, outcome.password_matches, outcome.is_new_file


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
    outcome = provision(path)
    assert told(outcome) == (Action.CREATED, True, True)
    assert (outcome.path, outcome.username, outcome.notices) == (path, USER, ())
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
    assert told(provision(path)) == (Action.UNCHANGED, True, False)
    assert identity(path) == before


def test_an_existing_user_is_left_alone_when_asked_to_and_the_drift_is_told(path: Path) -> None:
    provision(path, b"old")
    before = identity(path)
    assert told(provision(path, overwrite=False)) == (Action.UNCHANGED, False, False)
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
    with pytest.raises(BrokerFileError, match=r"passwd.*line \d"):
        provision(path)
    assert path.read_bytes() == content


def test_a_folder_is_refused_with_the_reason_why_it_may_be_one(path: Path) -> None:
    path.mkdir()
    with pytest.raises(BrokerFileError, match="directory") as refused:
        provision(path)
    assert "docker" in (refused.value.hint or "")


def test_a_missing_folder_is_refused(path: Path) -> None:
    with pytest.raises(BrokerFileError, match="No such file") as refused:
        provision(path.parent / "none" / "passwd")
    assert "folder must exist" in (refused.value.hint or "")


def test_a_fifo_is_refused_without_waiting_for_a_writer(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(BrokerFileError, match="not a regular file"):
        provision(path)


def test_a_dangling_link_is_refused_and_its_target_not_made(path: Path) -> None:
    path.symlink_to("elsewhere")
    with pytest.raises(BrokerFileError, match="does not exist"):
        provision(path)
    assert not path.with_name("elsewhere").exists()


def test_a_link_to_itself_is_refused(path: Path) -> None:
    path.symlink_to(path)
    with pytest.raises(BrokerFileError, match="symbolic link"):
        provision(path)


def test_a_file_with_a_second_hard_link_is_refused(path: Path) -> None:
    path.write_bytes(ALICE)
    path.with_name("second").hardlink_to(path)
    with pytest.raises(BrokerFileError, match="2 hard links"):
        provision(path)


@pytest.mark.parametrize(("username", "password"), [("a:b", b"x"), ("", b"x"), ("alice", b""), ("alice", b"a\0b")])
def test_a_login_that_cannot_work_is_refused_before_anything_is_made(
    path: Path, username: str, password: bytes
) -> None:
    with pytest.raises(ConfigError):
        write_user(path, username, password)
    assert not path.exists()
    assert leftovers(path) == []


def test_a_full_disk_leaves_the_file_as_it_was(path: Path) -> None:
    path.write_bytes(ALICE)
    before = identity(path)
    assert "File too large" in run(PROVISION_LIMITED, path)
    assert path.read_bytes() == ALICE
    assert identity(path) == before
    assert leftovers(path) == []


def test_forty_runs_at_once_lose_no_user(path: Path) -> None:
    path.write_bytes(ALICE)
    names = [f"user{number}" for number in range(40)]
    runs = [subprocess.Popen([sys.executable, "-c", PROVISION, path, name]) for name in names]
    assert [process.wait(timeout=60) for process in runs] == [0] * 40
    assert path.read_bytes().startswith(ALICE)
    assert [name for name in names if not logs_in(path, name, f"pw of {name}".encode())] == []
    assert len(users(path)) == 41
    assert leftovers(path) == []


def test_two_hundred_runs_that_are_killed_leave_no_cut_file(path: Path) -> None:
    path.write_bytes(ALICE)
    # each line: the file as a kill left it, and the passwords of which it may hold either
    for line in run(KILL_MANY, path, "200").splitlines():
        content, passwords = line.split(" ")
        path.write_bytes(bytes.fromhex(content))
        assert path.read_bytes().startswith(ALICE)
        assert [user.is_valid for user in users(path)] == [True] * len(users(path))
        assert any(logs_in(path, USER, password.encode()) for password in passwords.split(","))


def test_a_lock_that_is_not_released_ends_in_an_error(path: Path) -> None:
    with path.with_name(".passwd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BrokerFileError, match="locked"):
            write_user(path, USER, PASSWORD, lock_timeout_seconds=0.1)
    assert not path.exists()


def test_the_lock_of_a_dead_run_does_not_count(path: Path) -> None:
    path.with_name(".passwd.lock").touch()
    assert provision(path).action is Action.CREATED


@needs_leases
def test_a_line_that_another_program_adds_meanwhile_survives(path: Path) -> None:
    path.write_bytes(ALICE)
    with path.open("ab") as file:
        slow = threading.Thread(target=provision, args=(path,))
        slow.start()
        time.sleep(0.1)
        file.write(b"# added\n")
    slow.join()
    assert path.read_bytes().startswith(ALICE + b"# added\n")
    assert logs_in(path, USER, PASSWORD)


@needs_leases
def test_a_file_that_another_program_keeps_open_for_writing_is_not_replaced(path: Path) -> None:
    path.write_bytes(ALICE)
    with path.open("ab") as file:
        with pytest.raises(BrokerFileBusyError, match="open for writing"):
            write_user(path, USER, PASSWORD, iterations=1000, lock_timeout_seconds=0.1)
        file.write(b"# added\n")
    assert path.read_bytes() == ALICE + b"# added\n"
    assert leftovers(path) == []


@needs_leases
def test_mosquitto_passwd_at_the_same_file_meanwhile_loses_no_user_of_ours(path: Path) -> None:
    tool = shutil.which("mosquitto_passwd")
    assert tool, "mosquitto_passwd is not installed"
    path.write_bytes(ALICE.partition(b"\n")[2])  # a comment would have the tool drop everybody after it
    done = threading.Event()

    def hammer() -> None:
        while not done.is_set():
            subprocess.run([tool, "-b", path, "theirs", "x"], check=False, timeout=60, capture_output=True)

    hammering = threading.Thread(target=hammer)
    hammering.start()
    names = []
    try:
        for number in range(30):
            with suppress(BrokerFileBusyError, BrokerFileChangedError):
                names.append(write_user(path, f"ours{number}", PASSWORD, iterations=1000).username)
    finally:
        done.set()
        hammering.join()
    assert names
    assert [name for name in names if not logs_in(path, name, PASSWORD)] == []
    assert logs_in(path, "alice", b"tulip")


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (SHA512, "SHA-512"),
        (LONG_SALT, "PBKDF2-SHA512, 1,000 iterations, 64-byte salt"),
        (hash_password(b"s3cr3t", iterations=1000), "PBKDF2-SHA512, 1,000 iterations"),
    ],
    ids=["one round", "a long salt", "few rounds"],
)
def test_the_same_password_with_a_weaker_entry_is_upgraded(path: Path, entry: str, kind: str) -> None:
    path.write_bytes(ALICE + f"{USER}:{entry}\n".encode())
    assert entry_kind(entry) == kind
    assert provision(path, b"s3cr3t", iterations=2000).action is Action.UPGRADED
    assert path.read_bytes().startswith(ALICE)
    assert entry_kind(find_entry(path.read_bytes(), USER) or "") == "PBKDF2-SHA512, 2,000 iterations"
    assert logs_in(path, USER, b"s3cr3t")


def test_an_entry_is_never_made_weaker(path: Path) -> None:
    provision(path, iterations=5000)
    before = path.read_bytes()
    assert provision(path, iterations=1000).action is Action.UNCHANGED
    assert path.read_bytes() == before


def test_several_lines_of_the_user_become_one_and_it_is_said(path: Path) -> None:
    strong = f"{USER}:{hash_password(PASSWORD, iterations=2000)}\n".encode()
    path.write_bytes(f"{USER}:$7$cut\n".encode() + ALICE + strong)
    outcome = provision(path)
    assert (outcome.action, outcome.notices[:1]) == (Action.UPGRADED, ("2 lines of this user became one",))
    assert path.read_bytes() == strong + ALICE


def test_an_existing_user_is_not_even_upgraded_when_it_is_to_be_left_alone(path: Path) -> None:
    content = f"{USER}:{SHA512}\n{USER}:{SHA512}\n".encode()
    path.write_bytes(content)
    assert told(provision(path, b"s3cr3t", overwrite=False)) == (Action.UNCHANGED, True, False)
    assert path.read_bytes() == content


@pytest.mark.parametrize("entry", [ARGON2_ENTRY, SHA512.replace("$6$", "$8$")], ids=["argon2id", "$8$"])
def test_of_a_user_whose_entry_cannot_be_compared_nothing_is_claimed(path: Path, entry: str) -> None:
    content = f"{USER}:{entry}\n".encode()
    path.write_bytes(content)
    outcome = provision(path, overwrite=False)
    assert told(outcome) == (Action.UNCHANGED, None, False)
    assert "cannot be told here" in outcome.notices[0]
    assert path.read_bytes() == content
    assert provision(path).action is Action.UPDATED
    assert logs_in(path, USER, PASSWORD)


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_user_whose_every_line_is_malformed_is_created(path: Path, overwrite: bool) -> None:
    path.write_bytes(ALICE + f"{USER}:plain\n{USER}:$7$cut\n".encode())
    outcome = provision(path, overwrite=overwrite)
    assert (outcome.action, outcome.notices[:1]) == (Action.CREATED, ("2 lines of this user became one",))
    assert count_entries(path.read_bytes(), USER) == 1
    assert logs_in(path, USER, PASSWORD)


def test_a_user_is_removed_and_the_rest_is_kept(path: Path) -> None:
    path.write_bytes(ALICE)
    provision(path)
    path.write_bytes(path.read_bytes() + b"# the end")
    assert told(drop_user(path, USER)) == (Action.REMOVED, None, False)
    assert path.read_bytes() == ALICE + b"# the end"


def test_several_lines_of_a_user_are_all_removed_and_it_is_said(path: Path) -> None:
    path.write_bytes(ALICE + f"{USER}:{SHA512}\n{USER}:{SHA512}\n".encode())
    assert drop_user(path, USER).notices[:1] == ("2 lines of this user were removed",)
    assert path.read_bytes() == ALICE


def test_who_is_not_there_need_not_be_removed(path: Path) -> None:
    path.write_bytes(ALICE)
    before = identity(path)
    assert told(drop_user(path, USER)) == (Action.UNCHANGED, None, False)
    assert identity(path) == before


@pytest.mark.parametrize("act", [lambda path: drop_user(path, USER), users])
def test_a_missing_file_has_no_users_to_list_or_remove(path: Path, act: Callable[[Path], object]) -> None:
    with pytest.raises(BrokerFileError, match="does not exist"):
        act(path)
    assert list(path.parent.iterdir()) == []


def test_a_user_name_that_mosquitto_would_not_take_can_be_removed(path: Path) -> None:
    path.write_bytes(ALICE + f"a+b:{SHA512}\n".encode())
    assert drop_user(path, "a+b").action is Action.REMOVED
    assert path.read_bytes() == ALICE


@pytest.mark.parametrize("username", ["", "a:b", "a\nb"])
def test_what_cannot_stand_in_the_file_is_no_user_name_to_remove(path: Path, username: str) -> None:
    path.write_bytes(ALICE)
    with pytest.raises(ConfigError, match="user name"):
        drop_user(path, username)


def test_the_users_are_listed_in_the_order_of_the_file_without_their_hashes(path: Path) -> None:
    path.write_bytes(ALICE)
    provision(path)
    assert [user.username for user in users(path)] == ["alice", USER]
    assert "$7$" not in repr(users(path))
    assert leftovers(path) == []


def test_a_dry_run_tells_the_outcome_and_writes_nothing(path: Path) -> None:
    assert told(provision(path, dry_run=True)) == (Action.CREATED, True, True)
    assert list(path.parent.iterdir()) == []
    path.write_bytes(ALICE)
    assert told(provision(path, dry_run=True)) == (Action.CREATED, True, False)
    assert drop_user(path, "alice", dry_run=True).action is Action.REMOVED
    assert path.read_bytes() == ALICE
    assert list(path.parent.iterdir()) == [path]


def test_an_update_can_be_undone(path: Path) -> None:
    path.write_bytes(ALICE)
    assert restore(provision(path).rewritten)
    assert path.read_bytes() == ALICE


@pytest.mark.parametrize("iterations", [0, 999, 1_000_001])
def test_iterations_out_of_bounds_are_refused_even_for_who_is_there(path: Path, iterations: int) -> None:
    provision(path)
    with pytest.raises(ConfigError, match="out of range"):
        provision(path, iterations=iterations)


def test_control_characters_in_a_password_are_allowed_only_on_demand(path: Path) -> None:
    with pytest.raises(ConfigError, match="control character"):
        write_user(path, USER, b"a\tb")
    write_user(path, USER, b"a\tb", allow_control=True)
    assert logs_in(path, USER, b"a\tb")


@needs_root
def test_a_new_file_is_given_to_the_broker_when_root_makes_it(path: Path) -> None:
    write_user(path, USER, PASSWORD, new_file_owner=(12_345, 23_456))
    assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (12_345, 23_456, 0o600)


@needs_root
def test_the_other_users_of_a_file_that_is_mounted_by_itself_survive(path: Path) -> None:
    path.write_bytes(ALICE)
    mount = f"mount --bind '{path}' '{path}' && exec \"$@\""
    command = ["unshare", "-m", "sh", "-c", mount, "sh", sys.executable, "-c", PROVISION, str(path), "carol"]
    inode = path.stat().st_ino
    for _ in range(2):
        subprocess.run(command, check=True, timeout=60)
    assert path.stat().st_ino == inode
    assert path.read_bytes().startswith(ALICE)
    assert logs_in(path, "carol", b"pw of carol")
    assert leftovers(path) == []


def test_no_error_and_no_outcome_shows_the_password_or_a_hash(path: Path) -> None:
    shown = repr(provision(path))
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BrokerFileError) as refused:
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
    write_user(path, username, PASSWORD, iterations=1000)
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
