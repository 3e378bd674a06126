"""A stranger's .env: the ways in which it would run programs and send secrets away, from root and from others."""

import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.brokers import PASSWORD, Mosquitto
from tests.support.certificates import Certificates
from tests.support.plantops import PATIENCE_SECONDS, Done, run
from tests.support.scripts import run_script
from tests.test_envfile import private_groups

STRANGER = 65_534
IGNORED = "plantops: warning: .env is ignored: "

# gives up its rights as soon as it has read the program, which another user need not be able to
_AS_ANOTHER = """
import os, sys
import plantops_cli.cli.check.failure, plantops_cli.cli.fleet.run
import plantops_cli.cli.app, plantops_cli.cli.check.run, plantops_cli.cli.doctor.run
import plantops_cli.cli.listen.run, plantops_cli.cli.listen.to_file, plantops_cli.cli.provision_user.run
"a".encode("idna")
uid, gid = map(int, sys.argv[1:3])
os.setgroups([])
os.setgid(gid)
os.setuid(uid)
sys.exit(plantops_cli.cli.app.run(sys.argv[3:]))
"""


_IN_FOLDER = (
    """
import os, shutil, sys
folder, is_gone = sys.argv[1:3]
os.chdir(folder)
if is_gone == "True":
    shutil.rmtree(folder)
sys.argv[1:3] = ["4242", "4242"]
"""
    + _AS_ANOTHER
)
_LOGIN = {"MQTT_BACKEND_PASSWORD": PASSWORD}


class Ear:
    """A broker that takes note of the first bytes of each connection, and answers nothing."""

    def __init__(self) -> None:
        self.heard = list[bytes]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(PATIENCE_SECONDS)
                self.heard.append(connection.recv(4096))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@dataclass(frozen=True)
class Caller:
    """Who runs the program."""

    uid: int
    gid: int

    def run(self, *arguments: str, env: dict[str, str] | None = None, is_fresh: bool = False) -> Done:
        if self.uid == 0:
            return run(*arguments, env=env)
        ids = (str(self.uid), str(self.gid))
        return run_script(_AS_ANOTHER, *ids, *arguments, env={**os.environ, **(env or {})}, is_fresh=is_fresh)


def callers() -> list[object]:
    account = next(iter(private_groups()), None)
    ordinary = Caller(account.pw_uid, account.pw_gid) if account else Caller(4242, 4242)
    return [pytest.param(Caller(0, 0), id="root"), pytest.param(ordinary, id="ordinary user")]


each_caller = pytest.mark.parametrize("caller", callers())


@pytest.fixture(autouse=True)
def no_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may do so under sudo."""
    monkeypatch.delenv("SUDO_UID", raising=False)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, root's, which everybody may reach."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files of other users")
    with tempfile.TemporaryDirectory(prefix="plantops-", dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        monkeypatch.chdir(path)
        yield path


@pytest.fixture
def ear() -> Iterator[Ear]:
    ear = Ear()
    yield ear
    ear.close()


def give(path: Path, uid: int, gid: int | None = None, mode: int = 0o644) -> Path:
    os.chown(path, uid, uid if gid is None else gid)
    path.chmod(mode)
    return path


def strangers_env(folder: Path, *lines: str) -> Path:
    """A stranger's .env in a folder where everybody may write, so that nothing else stands in its way."""
    folder.chmod(0o1777)
    path = folder / ".env"
    path.write_text("".join(f"{line}\n" for line in lines))
    return give(path, STRANGER)


@pytest.fixture
def program(folder: Path) -> tuple[Path, Path]:
    """A stranger's program, and the file that tells that it ran."""
    program, trace = folder / "x.sh", folder / "ran"
    program.write_text(f"#!/bin/sh\nid -u > {trace}\n")
    return give(program, STRANGER, mode=0o755), trace


def broker_files(folder: Path, owner: Caller | int) -> tuple[Path, Path]:
    """A mosquitto.conf and a password file, as a broker that does not run has them."""
    uid = owner if isinstance(owner, int) else owner.uid
    passwords, config = folder / "passwords", folder / "mosquitto.conf"
    passwords.touch()
    give(passwords, uid, mode=0o666)
    config.write_text(f"listener 1 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n")
    return give(config, uid), passwords


def ignored(done: Done) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith(IGNORED)]


def assert_ignored_in_one_line(done: Done) -> None:
    assert [line.startswith(f"{IGNORED}it belongs to ") for line in ignored(done)] == [True], done.stderr


# The six ways


@each_caller
def test_no_program_of_a_stranger_runs_in_provision_user(
    caller: Caller, folder: Path, program: tuple[Path, Path]
) -> None:
    path, trace = program
    config, _ = broker_files(folder, STRANGER)
    strangers_env(folder, f"MQTT_BROKER_CONFIG={config}", f"MQTT_RELOAD=command:{path}")
    done = caller.run("provision-user", "--no-verify", env={"MQTT_BACKEND_PASSWORD": PASSWORD}, is_fresh=True)
    assert not trace.exists()
    assert_ignored_in_one_line(done)
    assert done.code == 2
    assert "no password file is given" in done.errors[0]


@each_caller
def test_no_program_of_a_stranger_runs_when_the_caller_names_the_configuration(
    caller: Caller, folder: Path, program: tuple[Path, Path]
) -> None:
    path, trace = program
    config, passwords = broker_files(folder, caller)
    strangers_env(folder, f"MQTT_RELOAD=command:{path}")
    arguments = ("provision-user", "--no-verify", "--config", str(config))
    done = caller.run(*arguments, env={"MQTT_BACKEND_PASSWORD": PASSWORD})
    assert not trace.exists()
    assert_ignored_in_one_line(done)
    assert done.code == 0, done.stderr
    assert passwords.read_text()


@each_caller
def test_no_program_of_a_stranger_runs_when_a_listener_ensures_its_user(
    caller: Caller, folder: Path, program: tuple[Path, Path]
) -> None:
    path, trace = program
    config, passwords = broker_files(folder, STRANGER)
    lines = f"MQTT_BROKER_CONFIG={config}", f"MQTT_RELOAD=command:{path}", f"MQTT_PASSWORD_FILE={passwords}"
    strangers_env(folder, *lines)
    done = caller.run("listen", "--ensure-user", "-W", "1", env={"MQTT_BACKEND_PASSWORD": PASSWORD})
    assert not trace.exists()
    assert_ignored_in_one_line(done)
    assert "no password file is set" in done.errors[0]
    assert not passwords.read_text()


@each_caller
def test_no_stranger_says_where_the_password_of_the_environment_goes(
    caller: Caller, folder: Path, ear: Ear
) -> None:
    strangers_env(folder, "MQTT_HOST=127.0.0.1", f"MQTT_PORT={ear.port}")
    done = caller.run("listen", "-W", "1", env={"MQTT_BACKEND_PASSWORD": PASSWORD})
    assert ear.heard == []
    assert_ignored_in_one_line(done)


@each_caller
def test_no_stranger_takes_tls_off(caller: Caller, folder: Path, ear: Ear, certificates: Certificates) -> None:
    ca = folder / "ca.pem"
    ca.write_bytes(certificates.ca.read_bytes())
    give(ca, 0)
    strangers_env(folder, "MQTT_TLS=false")
    environment = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(ear.port), "MQTT_CAFILE": str(ca)}
    done = caller.run("listen", "-W", "1", env={**environment, "MQTT_BACKEND_PASSWORD": PASSWORD})
    assert [heard[:1] for heard in ear.heard] == [b"\x16"], "not the beginning of a TLS handshake"
    assert_ignored_in_one_line(done)


@each_caller
def test_no_stranger_has_a_file_of_the_caller_sent_as_a_password(caller: Caller, folder: Path, ear: Ear) -> None:
    secret = folder / "secret"
    secret.write_text("the caller's own\n")
    give(secret, caller.uid, mode=0o600)
    lines = "MQTT_HOST=127.0.0.1", f"MQTT_PORT={ear.port}", f"MQTT_BACKEND_PASSWORD_FILE={secret}"
    strangers_env(folder, *lines)
    done = caller.run("listen", "-W", "1")
    assert ear.heard == []
    assert_ignored_in_one_line(done)
    assert done.code == 2
    assert "no password for" in done.errors[0]


# What goes on working


Making = Callable[[Path, Caller], None]


def own(mode: int) -> Making:
    def make(path: Path, caller: Caller) -> None:
        give(path.parent, caller.uid, caller.gid, 0o755)
        give(path, caller.uid, caller.gid, mode)

    return make


def roots(path: Path, caller: Caller) -> None:
    give(path, 0)


def of_a_private_group(path: Path, caller: Caller) -> None:
    give(path.parent, caller.uid, caller.gid, 0o775)
    give(path, caller.uid, caller.gid, 0o664)


def in_a_sticky_folder(path: Path, caller: Caller) -> None:
    path.parent.chmod(0o1777)
    give(path, caller.uid, caller.gid, 0o600)


def linked(path: Path, caller: Caller) -> None:
    give(path.parent, caller.uid, caller.gid, 0o755)
    real = path.rename(path.with_name("dotfile"))
    give(real, caller.uid, caller.gid, 0o600)
    path.symlink_to(real)
    os.lchown(path, caller.uid, caller.gid)


GOOD = {
    "own, 0600": own(0o600),
    "own, 0644": own(0o644),
    "root's, 0644": roots,
    "of a private group, 0664": of_a_private_group,
    "own, in a sticky folder": in_a_sticky_folder,
    "own link to an own file": linked,
}


def its_host(path: Path, caller: Caller, make: Making, **environment: str) -> Done:
    """How the program takes a .env that names a host and a port, and nothing else."""
    path.write_text("MQTT_HOST=127.0.0.1\nMQTT_PORT=1\n")
    make(path, caller)
    return caller.run("listen", env={"MQTT_BACKEND_PASSWORD": PASSWORD, **environment})


@each_caller
@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_one_that_nobody_else_had_a_hand_in_counts(caller: Caller, make: Making, folder: Path) -> None:
    if make is of_a_private_group and caller.uid and not private_groups():
        pytest.skip("this machine has no account with a group of its own")
    done = its_host(folder / ".env", caller, make)
    assert ignored(done) == []
    assert done.stderr.splitlines()[0] == "plantops: connecting to 127.0.0.1:1 (MQTT_HOST, MQTT_PORT from .env)"
    assert done.code == 3


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_that_of_the_caller_counts_under_sudo(mode: int, folder: Path) -> None:
    caller = Caller(4242, 4242)

    def make(path: Path, root: Caller) -> None:
        own(mode)(path, caller)

    done = its_host(folder / ".env", Caller(0, 0), make, SUDO_UID="4242")
    assert "connecting to 127.0.0.1:1 (MQTT_HOST, MQTT_PORT from .env)" in done.stderr
    done = its_host(folder / ".env", Caller(0, 0), make, SUDO_UID="4243")
    assert ignored(done)
    assert "connecting to 127.0.0.1:1" not in done.stderr


# What does not count


def writable(mode: int) -> Making:
    def make(path: Path, caller: Caller) -> None:
        give(path, caller.uid, STRANGER, mode)

    return make


def in_a_folder_of_anothers(path: Path, caller: Caller) -> None:
    give(path, caller.uid)
    give(path.parent, STRANGER, mode=0o755)


def in_a_folder_that_is_open(path: Path, caller: Caller) -> None:
    give(path, caller.uid)
    path.parent.chmod(0o777)


def behind_a_link_of_anothers(path: Path, caller: Caller) -> None:
    real = path.rename(path.with_name("dotfile"))
    give(real, caller.uid)
    path.parent.chmod(0o1777)
    path.symlink_to(real)
    os.lchown(path, STRANGER, STRANGER)


def with_a_second_name(path: Path, caller: Caller) -> None:
    give(path, caller.uid)
    path.with_name("second").hardlink_to(path)
    path.parent.chmod(0o1777)


BAD = {
    "that everybody may write": writable(0o666),
    "that a group may write": writable(0o664),
    "in a folder of another's": in_a_folder_of_anothers,
    "in a folder that everybody may write in": in_a_folder_that_is_open,
    "behind a link of another's": behind_a_link_of_anothers,
    "with a second name in a sticky folder": with_a_second_name,
}


@each_caller
@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_one_that_others_can_decide_is_ignored_in_one_line(caller: Caller, make: Making, folder: Path) -> None:
    done = its_host(folder / ".env", caller, make)
    assert len(ignored(done)) == 1
    assert "--env-file" in ignored(done)[0]
    assert "connecting to 127.0.0.1:1" not in done.stderr


def test_sudo_uid_counts_for_nobody_but_root(folder: Path) -> None:
    done = its_host(folder / ".env", Caller(4242, 4242), lambda path, _: own(0o644)(path, Caller(4243, 4243)))
    assert len(ignored(done)) == 1
    done = Caller(4242, 4242).run("listen", env={"MQTT_BACKEND_PASSWORD": PASSWORD, "SUDO_UID": "4243"})
    assert len(ignored(done)) == 1


def unreadable(path: Path, caller: Caller) -> None:
    give(path, 0, mode=0o600)


def looping(path: Path, caller: Caller) -> None:
    path.unlink()
    path.symlink_to(path)


def a_folder(path: Path, caller: Caller) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path, caller: Caller) -> None:
    path.unlink()
    os.mkfifo(path)


def behind_a_closed_door(path: Path, caller: Caller) -> None:
    (path.parent / "closed").mkdir(mode=0o700)
    path.rename(path.parent / "closed" / "env")
    path.symlink_to(path.parent / "closed" / "env")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (unreadable, "it cannot be read: Permission denied"),
        (behind_a_closed_door, "it cannot be read: Permission denied"),
        (looping, "it cannot be read: Too many levels of symbolic links"),
        (a_folder, "it is not a regular file"),
        (a_pipe, "it is not a regular file"),
    ],
)
def test_one_that_cannot_be_read_is_named(make: Making, why: str, folder: Path) -> None:
    done = its_host(folder / ".env", Caller(4242, 4242), make)
    assert [line.startswith(f"{IGNORED}{why} (") for line in ignored(done)] == [True], done.stderr


COMMANDS = {
    "listen": 3,
    "check": 3,
    "check --save-roster": 3,
    "doctor": 3,
    "fleet --once": 3,
    "fleet --once --save-roster roster": 3,
    "provision-user --no-verify": 2,
}


@pytest.mark.parametrize("line", COMMANDS)
@pytest.mark.parametrize("is_gone", [False, True], ids=["closed", "removed"])
def test_a_working_folder_of_which_nothing_can_be_known_is_as_good_as_an_empty_one(
    line: str, folder: Path, *, is_gone: bool
) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / ".env").write_text("MQTT_HOST=a.example\n")
    arguments = [*line.split(), "-h", "127.0.0.1", "-p", "1"]
    done = run_script(_IN_FOLDER, str(closed), str(is_gone), *arguments, env=_LOGIN | {"PATH": os.environ["PATH"]})
    assert done.code == COMMANDS[line], done.stderr
    assert ".env" not in done.stderr
    assert "standard output" not in done.stderr
    assert done.stdout or "check" not in line


@each_caller
def test_one_that_is_named_is_taken_from_whoever_owns_it(caller: Caller, folder: Path) -> None:
    strangers_env(folder, "MQTT_HOST=127.0.0.1", "MQTT_PORT=1", "MQTT_RELOAD=command:/bin/true")
    login = {"MQTT_BACKEND_PASSWORD": PASSWORD}
    done = caller.run("listen", "--env-file", ".env", env=login, is_fresh=True)
    assert ignored(done) == []
    assert "plantops: connecting to 127.0.0.1:1 (MQTT_HOST, MQTT_PORT from .env)" in done.stderr.splitlines()
    assert "MQTT_RELOAD of .env is not taken: it would run a program" in done.stderr


# What is said, whoever runs it


ADDRESS = "(MQTT_HOST, MQTT_PORT from .env)"


def pointing_at(path: Path, broker: Mosquitto, *lines: str) -> None:
    path.write_text("\n".join(["MQTT_HOST=127.0.0.1", f"MQTT_PORT={broker.port}", *lines, ""]))


@pytest.mark.parametrize(
    "arguments",
    [
        ("listen", "-W", "0.5"),
        ("fleet", "--once", "--within", "500ms"),
        ("fleet", "--events", "-W", "0.5"),
        ("check", "--within", "500ms"),
        ("provision-user", "--file", "mine", "--no-verify"),
        ("provision-user", "--file", "mine", "--dry-run"),
        ("provision-user", "--file", "mine"),
    ],
    ids=" ".join,
)
def test_each_command_names_the_file_that_says_where_a_password_goes(
    arguments: tuple[str, ...], mosquitto: Mosquitto, tmp_path: Path
) -> None:
    pointing_at(tmp_path / ".env", mosquitto)
    environment = {"MQTT_BACKEND_PASSWORD": PASSWORD}
    done = run(*arguments, env=environment)
    line = f"plantops: connecting to 127.0.0.1:{mosquitto.port} {ADDRESS}"
    is_sent = "--no-verify" not in arguments and "--dry-run" not in arguments
    assert done.stderr.splitlines().count(line) == is_sent, done.stderr
    done = run(*arguments, env={**environment, **mosquitto.environment})
    assert ADDRESS not in done.stderr


def test_doctor_names_it_beside_each_setting(mosquitto: Mosquitto, tmp_path: Path) -> None:
    pointing_at(tmp_path / ".env", mosquitto)
    (tmp_path / ".env").rename(tmp_path / "settings")
    done = run("doctor", "--canary", "--env-file", "settings", env={"MQTT_BACKEND_PASSWORD": PASSWORD})
    assert f"MQTT_PORT={mosquitto.port} (settings)" in done.stdout.decode()


def test_where_no_password_goes_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MQTT_HOST=127.0.0.1\nMQTT_PORT=1\n")
    done = run("listen", "--anonymous")
    assert done.stderr.splitlines()[0] == "plantops: connecting to 127.0.0.1:1"


def test_quiet_leaves_no_warning_out(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MQTT_HOST=127.0.0.1\nMQTT_PORT=1\nMQTT_RELOAD=command:x\n")
    done = run("listen", "--quiet", env={"MQTT_BACKEND_PASSWORD": PASSWORD})
    assert "plantops: warning: MQTT_RELOAD of .env is not taken" in done.stderr
    (tmp_path / ".env").chmod(0o666)
    done = run("listen", "--quiet", "-h", "127.0.0.1", "-p", "1", env={"MQTT_BACKEND_PASSWORD": PASSWORD})
    assert len(ignored(done)) == 1


@pytest.mark.parametrize("command", ["listen", "fleet --once", "doctor", "provision-user"])
def test_a_named_file_that_is_missing_is_a_usage_error(command: str) -> None:
    done = run(*command.split(), "--env-file", "missing", env={"MQTT_BACKEND_PASSWORD": PASSWORD})
    assert done.code == 2
    assert "cannot read settings from 'missing': No such file or directory" in done.stderr + done.stdout.decode()


def test_check_calls_what_it_cannot_read_unknown() -> None:
    done = run("check", "--env-file", "missing", env={"MQTT_BACKEND_PASSWORD": PASSWORD})
    assert done.code == 3
    assert b"cannot read settings from 'missing'" in done.stdout
