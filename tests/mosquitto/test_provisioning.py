"""Provisioning from end to end, on real files and real brokers."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from plantops_cli.errors import BrokerFileError, ConfigError, ProofError, ReloadError
from plantops_cli.mosquitto.broker.proof import Proof, RemovalProof
from plantops_cli.mosquitto.files.password_file import write_user
from plantops_cli.mosquitto.provisioning import Mode, Request, provision
from plantops_cli.mosquitto.text.actions import Action
from plantops_cli.mosquitto.text.hashing import verify_password
from plantops_cli.mosquitto.text.passwords import find_entry
from plantops_cli.stream.options import ConnectOptions
from tests.mosquitto.conftest import StartUnprivileged
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.certificates import Certificates
from tests.support.newer_broker import install_newer
from tests.support.password_entries import ARGON2_ENTRY
from tests.support.unprivileged_broker import PASSWORD as ALICES
from tests.support.unprivileged_broker import USER as ALICE
from tests.support.unprivileged_broker import give_to_broker, mounting
from tests.support.without_mosquitto import run_without_mosquitto

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can mount, and start a broker of another user"
)

NEW = "newcomer"
SECRET = b"tulip and rose"
TRY = """
import sys
from pathlib import Path
from plantops_cli.errors import ConfigError
from plantops_cli.mosquitto.provisioning import Request, provision
try:
    provision(Request(username="bob", password=b"rose", password_file=Path(sys.argv[1]), is_trial_wanted=True))
except ConfigError as exc:
    print(exc, exc.hint, sep=" | ")
"""
OTHERS = b"user alice\ntopic readwrite #\n"


@pytest.fixture
def passwd(tmp_path: Path) -> Path:
    return tmp_path / "passwd"


@pytest.fixture
def acl(tmp_path: Path) -> Path:
    return tmp_path / "acl"


@pytest.fixture
def request_(passwd: Path, acl: Path) -> Request:
    return Request(username=NEW, password=SECRET, password_file=passwd, acl_file=acl)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    (folder / "acl").write_bytes(OTHERS)
    (folder / "acl").chmod(0o600)
    running = Mosquitto(folder, extra=f"acl_file {folder / 'acl'}\npid_file {folder / 'pid'}")
    running.start()
    yield running
    running.stop()


def address(broker: Mosquitto) -> ConnectOptions:
    return ConnectOptions(host="127.0.0.1", port=broker.port)


def on(broker: Mosquitto, request: Request) -> Request:
    passwords, acl = broker.folder / "passwords", broker.folder / "acl"
    return replace(request, address=address(broker), password_file=passwords, acl_file=acl)


def reload(broker: Mosquitto) -> None:
    assert broker.process is not None
    broker.process.send_signal(signal.SIGHUP)


def logs_in(path: Path, username: str, password: bytes) -> bool:
    entry = find_entry(path.read_bytes(), username)
    return entry is not None and verify_password(password, entry)


def test_login_and_right_are_made_together(request_: Request, passwd: Path, acl: Path) -> None:
    outcome = provision(request_)
    assert outcome.login.action is Action.CREATED
    assert outcome.grant is not None
    assert outcome.grant.action == "created"
    assert logs_in(passwd, NEW, SECRET)
    assert f"user {NEW}\ntopic read devices/+/telemetry\n".encode() in acl.read_bytes()


def test_a_second_run_changes_nothing(request_: Request) -> None:
    provision(request_)
    assert not provision(request_).is_changed


def test_a_right_without_its_login_is_taken_back(request_: Request, passwd: Path, acl: Path) -> None:
    passwd.write_bytes(b"listener 1883\n")
    with pytest.raises(BrokerFileError):
        provision(request_)
    assert not acl.exists()


def test_a_login_that_cannot_be_written_takes_the_right_back_too(request_: Request, tmp_path: Path) -> None:
    # refused only when it comes to writing: the folder of the password file is gone by then
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "acl").write_bytes(OTHERS)
    request = replace(request_, password_file=folder / "passwd", on_ready=folder.rmdir)
    with pytest.raises(BrokerFileError, match="No such file"):
        provision(request)
    assert (tmp_path / "acl").read_bytes() == OTHERS


def test_an_acl_file_that_the_broker_would_refuse_stops_everything(
    request_: Request, passwd: Path, acl: Path
) -> None:
    acl.write_bytes(b"user alice\n  # indented\n")
    with pytest.raises(BrokerFileError, match="line 2"):
        provision(request_)
    assert not passwd.exists()


def test_a_dry_run_tells_and_writes_nothing(request_: Request, tmp_path: Path) -> None:
    called: list[int] = []
    outcome = provision(replace(request_, is_dry_run=True, on_ready=lambda: called.append(1)))
    assert outcome.login.action is Action.CREATED
    assert list(tmp_path.iterdir()) == []
    assert called == []


def test_the_caller_hears_when_all_checks_have_passed_and_only_then(request_: Request, passwd: Path) -> None:
    called: list[bool] = []
    request = replace(request_, on_ready=lambda: called.append(passwd.exists()))
    provision(request)
    provision(request)
    assert called == [False]


def test_a_removal_takes_login_and_right(request_: Request, passwd: Path, acl: Path) -> None:
    provision(request_)
    outcome = provision(replace(request_, mode=Mode.REMOVE, password=None))
    assert outcome.login.action is Action.REMOVED
    assert outcome.grant is not None
    assert outcome.grant.action == "removed"
    assert NEW.encode() not in passwd.read_bytes()
    assert NEW.encode() not in acl.read_bytes()


def test_a_trial_that_succeeds_lets_the_files_be_written(request_: Request) -> None:
    assert provision(replace(request_, is_trial_wanted=True)).login.action is Action.CREATED


def test_a_trial_finds_rights_that_are_too_wide_before_anything_is_written(
    request_: Request, passwd: Path, acl: Path
) -> None:
    acl.write_bytes(b"pattern readwrite #\n")
    with pytest.raises(ProofError):
        provision(replace(request_, is_trial_wanted=True))
    assert not passwd.exists()
    assert acl.read_bytes() == b"pattern readwrite #\n"


@needs_root
def test_without_a_mosquitto_there_is_no_trial_and_nothing_is_written(passwd: Path) -> None:
    assert run_without_mosquitto(TRY, passwd) == (
        "no mosquitto on this machine to try the new files on | "
        "install it (on Debian: apt install mosquitto), or do without the trial\n"
    )
    assert list(passwd.parent.iterdir()) == []


def test_a_reloaded_broker_proves_login_and_right(broker: Mosquitto, request_: Request) -> None:
    request = on(broker, request_)
    provision(replace(request, address=None))
    reload(broker)
    outcome = provision(request)
    assert outcome.failure is None
    assert isinstance(outcome.proof, Proof)
    assert (outcome.proof.is_anonymous_accepted, outcome.proof.is_publish_refused) == (False, True)


def test_a_broker_that_was_not_reloaded_is_told_beside_the_outcome(broker: Mosquitto, request_: Request) -> None:
    outcome = provision(on(broker, request_))
    assert outcome.login.action is Action.CREATED
    assert isinstance(outcome.failure, ProofError)
    assert "was not reloaded" in str(outcome.failure)
    assert SECRET.decode() not in f"{outcome!r} {outcome.failure!r}"


def test_a_removed_login_is_proven_to_be_refused(broker: Mosquitto, request_: Request) -> None:
    path = broker.folder / "passwords"
    request = replace(
        on(broker, request_), username=USERNAME, password=PASSWORD.encode(), acl_file=None, mode=Mode.REMOVE
    )
    assert isinstance(provision(request).failure, ProofError)
    reload(broker)
    outcome = provision(request)
    assert isinstance(outcome.proof, RemovalProof)
    assert outcome.proof.refused_after_seconds is not None
    assert USERNAME.encode() not in path.read_bytes()


def test_a_user_who_is_left_alone_with_another_password_proves_nothing(
    broker: Mosquitto, request_: Request
) -> None:
    request = replace(on(broker, request_), username=USERNAME, acl_file=None, mode=Mode.IF_MISSING)
    outcome = provision(request)
    assert outcome.login.password_matches is False
    assert (outcome.proof, outcome.failure) == (None, None)


def test_a_login_that_is_not_allowed_is_refused_before_anything_is_made(request_: Request, passwd: Path) -> None:
    with pytest.raises(ConfigError):
        provision(replace(request_, password=b"a\0b"))
    assert list(passwd.parent.iterdir()) == []


def told(broker: Mosquitto, request: Request) -> Request:
    """The same by the broker's configuration alone: it says which files, which process, which listener."""
    request = replace(on(broker, request), address=None, password_file=None)
    return replace(request, config=broker.folder / "mosquitto.conf")


def is_alive(broker: Mosquitto) -> bool:
    return broker.process is not None and broker.process.poll() is None


def test_a_configuration_is_enough_to_write_reload_and_prove(broker: Mosquitto, request_: Request) -> None:
    outcome = provision(told(broker, request_))
    assert outcome.login.action is Action.CREATED
    assert outcome.is_reloaded
    assert isinstance(outcome.proof, Proof)
    assert outcome.proof.is_publish_refused
    assert not provision(told(broker, request_)).is_reloaded


def test_a_process_is_enough_too(broker: Mosquitto, request_: Request) -> None:
    request = replace(told(broker, request_), config=None, reload=f"pid:{broker.folder / 'pid'}")
    assert isinstance(provision(request).proof, Proof)


def by_command(broker: Mosquitto, request: Request, command: str) -> Request:
    return replace(told(broker, request), reload=f"command:{command}")


def test_a_command_may_tell_the_broker(
    broker: Mosquitto, request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", "tulip and rose")
    seen = tmp_path / "seen"
    script = f"env > {seen}; kill -HUP $(cat {broker.folder / 'pid'})"
    outcome = provision(by_command(broker, request_, f"sh -c '{script}'"))
    assert outcome.is_reloaded
    assert isinstance(outcome.proof, Proof)
    assert "PATH=" in seen.read_text()
    assert "tulip" not in seen.read_text()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sh -c 'echo first >&2; echo no such unit >&2; exit 3'", "no such unit"),
        ("false", "exit code 1"),
        ("/does/not/exist", "No such file"),
    ],
)
def test_a_command_that_fails_is_told_beside_the_outcome(
    broker: Mosquitto, request_: Request, command: str, words: str
) -> None:
    outcome = provision(by_command(broker, request_, command))
    assert outcome.login.action is Action.CREATED
    assert isinstance(outcome.failure, ReloadError)
    assert words in str(outcome.failure)
    assert not outcome.is_reloaded


def test_a_command_is_not_run_while_a_neighbour_would_stop_the_broker(
    broker: Mosquitto, request_: Request, tmp_path: Path
) -> None:
    (broker.folder / "acl").write_bytes(b"topc read a\n")
    ran = tmp_path / "ran"
    with pytest.raises(BrokerFileError, match="line 1"):
        provision(by_command(broker, replace(request_, acl_file=None), f"touch {ran}"))
    assert not ran.exists()


def test_a_command_needs_a_configuration_to_check(request_: Request, passwd: Path) -> None:
    with pytest.raises(ConfigError, match="which files"):
        provision(replace(request_, reload="command:true"))
    assert not passwd.exists()


def test_of_a_broker_without_a_pid_file_the_user_is_judged_by_its_configuration(
    broker: Mosquitto, request_: Request
) -> None:
    config = broker.folder / "mosquitto.conf"
    for user, is_known in (("root", True), ("nobody-of-that-name", False)):
        text = config.read_text().replace("pid_file", "# pid_file").replace("user root", f"user {user}")
        config.write_text(text if "user " in text else f"{text}user {user}\n")
        outcome = provision(replace(by_command(broker, request_, "true"), is_proof_wanted=False))
        assert any("may read its files is not known" in line for line in outcome.notices) is not is_known
        provision(replace(by_command(broker, request_, "true"), mode=Mode.REMOVE, is_proof_wanted=False))


def test_a_file_that_is_right_already_is_reloaded_when_the_proof_fails(
    broker: Mosquitto, request_: Request
) -> None:
    provision(replace(told(broker, request_), reload="none", is_proof_wanted=False))
    outcome = provision(told(broker, request_))
    assert (outcome.login.action, outcome.is_reloaded) == (Action.UNCHANGED, True)
    assert isinstance(outcome.proof, Proof)


def test_a_removal_kicks_in_at_once(broker: Mosquitto, request_: Request) -> None:
    request = replace(told(broker, request_), mode=Mode.REMOVE, acl_file=None)
    provision(told(broker, request_))
    outcome = provision(request)
    assert isinstance(outcome.proof, RemovalProof)
    assert outcome.proof.refused_after_seconds is not None


def test_a_neighbour_that_a_reload_would_trip_over_stops_everything(broker: Mosquitto, request_: Request) -> None:
    before = (broker.folder / "passwords").read_bytes()
    (broker.folder / "acl").write_bytes(OTHERS + b"  # indented\n")
    with pytest.raises(BrokerFileError, match=r"acl', line 3: .*switch off all access control"):
        provision(replace(told(broker, request_), acl_file=None))
    assert (broker.folder / "passwords").read_bytes() == before


@pytest.fixture
def newer(broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mosquitto:
    """A broker that passes for a 2.1, and takes an argon2id hash; one neighbour has such a hash from the start."""
    (tmp_path / "bin").mkdir()
    install_newer(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    broker.stop()
    add_argon2(broker, "alice")
    broker.start()
    time.sleep(0.05)  # the age of a process is known to a hundredth of a second
    return broker


def add_argon2(broker: Mosquitto, username: str) -> None:
    with (broker.folder / "passwords").open("a") as passwords:
        passwords.write(f"{username}:{ARGON2_ENTRY}\n")


def hide_program(tmp_path: Path) -> None:
    """Make the broker's program one that is not to be run, which costs us its version and a trial."""
    (tmp_path / "bin" / "mosquitto").chmod(0o775)


def test_a_neighbour_that_the_brokers_own_program_takes_is_no_obstacle(
    newer: Mosquitto, request_: Request
) -> None:
    add_argon2(newer, "bob")
    outcome = provision(told(newer, request_))
    assert (outcome.is_reloaded, outcome.failure) == (True, None)
    assert isinstance(outcome.proof, Proof)
    assert any(
        "'alice' has an argon2id hash" in line and "1 more like it" in line and "takes the file" in line
        for line in outcome.notices
    )


def test_a_neighbour_that_the_broker_has_loaded_is_no_obstacle_now_or_after_our_reload(
    newer: Mosquitto, request_: Request, tmp_path: Path
) -> None:
    hide_program(tmp_path)
    outcome = provision(told(newer, request_))
    assert isinstance(outcome.proof, Proof)
    assert any(
        "'alice' has an argon2id hash" in line and "has the file loaded" in line for line in outcome.notices
    )
    assert isinstance(provision(replace(told(newer, request_), username="second")).proof, Proof)


def test_a_neighbour_that_was_written_since_and_of_which_nothing_is_known_stops_everything(
    newer: Mosquitto, request_: Request, tmp_path: Path
) -> None:
    hide_program(tmp_path)
    add_argon2(newer, "bob")
    before = (newer.folder / "passwords").read_bytes()
    with pytest.raises(BrokerFileError, match=r"'alice' has an argon2id hash.*end the broker"):
        provision(told(newer, request_))
    assert (newer.folder / "passwords").read_bytes() == before


def test_a_trial_is_made_with_the_program_of_the_broker_in_use(
    broker: Mosquitto, request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mosquitto").write_text("#!/bin/sh\necho Error: of another build >&2\nexit 3\n")
    (tmp_path / "mosquitto").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BrokerFileError, match="of another build"):
        provision(replace(request_, is_trial_wanted=True))
    assert isinstance(provision(replace(told(broker, request_), is_trial_wanted=True)).proof, Proof)


def test_a_rule_that_a_broker_loses_without_a_word_is_an_obstacle_though_it_starts(
    broker: Mosquitto, request_: Request
) -> None:
    (broker.folder / "acl").write_bytes(OTHERS + b"topic deny a\0\ntopic deny b\n")
    with pytest.raises(BrokerFileError, match="line 3: contains NUL"):
        provision(replace(told(broker, request_), acl_file=None))


def test_a_broker_that_dies_of_a_reload_gets_its_old_files_back(broker: Mosquitto, request_: Request) -> None:
    before = [(broker.folder / name).read_bytes() for name in ("passwords", "acl")]
    assert broker.process is not None
    done = threading.Event()

    def kill_when_written(process: subprocess.Popen[bytes]) -> None:
        # the part of Mosquitto 2.1, which ends when it does not like a file
        while not done.wait(0.001) and (broker.folder / "passwords").read_bytes() == before[0]:
            pass
        time.sleep(0.02)
        process.kill()

    killer = threading.Thread(target=kill_when_written, args=(broker.process,))
    killer.start()
    try:
        with pytest.raises(ReloadError, match="the old files were put back"):
            provision(told(broker, request_))
    finally:
        done.set()
        killer.join()
    assert [(broker.folder / name).read_bytes() for name in ("passwords", "acl")] == before


def test_a_broker_that_does_not_run_has_its_files_written_all_the_same(
    broker: Mosquitto, request_: Request
) -> None:
    broker.stop()
    outcome = provision(told(broker, request_))
    assert (outcome.login.action, outcome.is_reloaded, outcome.proof) == (Action.CREATED, False, None)
    assert any("takes effect at its next start" in remark for remark in outcome.remarks)


def test_a_stale_pid_file_never_costs_the_process_that_has_the_number_now(
    broker: Mosquitto, request_: Request
) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            # for a moment after its start it still has our name
            while Path(f"/proc/{stranger.pid}/comm").read_text() != "sleep\n":
                time.sleep(0.001)
            (broker.folder / "pid").write_text(str(stranger.pid))
            outcome = provision(told(broker, request_))
            assert any("is 'sleep'" in remark for remark in outcome.remarks)
            assert not outcome.is_reloaded
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_broker_of_another_configuration_is_refused(broker: Mosquitto, request_: Request, passwd: Path) -> None:
    other = broker.folder / "other.conf"
    other.write_text(f"password_file {passwd}\n")
    request = replace(told(broker, request_), config=other, reload=f"pid:{broker.folder / 'pid'}")
    with pytest.raises(ConfigError, match="another configuration"):
        provision(request)
    assert not passwd.exists()
    assert is_alive(broker)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("listener 1883\n", "names no password_file"),
        ("plugin /usr/lib/mosquitto_dynamic_security.so\n", "dynamic security plugin"),
        ("password_file /somewhere/else\n", "not '"),
    ],
)
def test_a_file_that_the_broker_would_not_read_is_not_written(
    request_: Request, passwd: Path, tmp_path: Path, text: str, words: str
) -> None:
    config = tmp_path / "mosquitto.conf"
    config.write_text(text)
    with pytest.raises(ConfigError, match=words):
        provision(replace(request_, config=config))
    assert not passwd.exists()


def test_of_several_password_files_one_must_be_chosen(request_: Request, passwd: Path, tmp_path: Path) -> None:
    config = tmp_path / "mosquitto.conf"
    files = [tmp_path / "a", passwd]
    listeners = [f"listener {port}\npassword_file {file}\n" for port, file in zip((1, 2), files, strict=True)]
    config.write_text("per_listener_settings true\n" + "".join(listeners))
    with pytest.raises(ConfigError, match="several password files"):
        provision(replace(request_, config=config, password_file=None))
    assert provision(replace(request_, config=config)).login.path == passwd


def test_a_broker_with_tls_only_is_said_not_to_be_proven(
    broker: Mosquitto, request_: Request, certificates: Certificates
) -> None:
    broker.stop()
    broker.listener = (
        f"listener {{port}} 127.0.0.1\ncertfile {certificates.server_cert}\nkeyfile {certificates.server_key}"
    )
    broker.start()
    outcome = provision(told(broker, request_))
    assert outcome.is_reloaded
    assert outcome.proof is None
    assert any(f"not proven: 127.0.0.1:{broker.port} speaks TLS" in line for line in outcome.notices)


def test_a_plugin_of_unknown_rules_is_remarked_on(request_: Request, passwd: Path, tmp_path: Path) -> None:
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"password_file {passwd}\nauth_plugin /opt/go-auth.so\n")
    assert any(
        "'/opt/go-auth.so' may decide" in line for line in provision(replace(request_, config=config)).notices
    )


@pytest.mark.parametrize(
    "way",
    ["", "pid:", "signal:1", "1234", "systemd:", "systemd:-x", "docker", "docker:a b", "command:", "command:'"],
)
def test_a_way_to_reload_that_does_not_exist_is_refused(request_: Request, passwd: Path, way: str) -> None:
    with pytest.raises(ConfigError, match=r"^reload by "):
        provision(replace(request_, reload=way))
    assert not passwd.exists()


@needs_root
def test_a_login_refused_because_of_a_file_that_is_mounted_by_itself_is_explained(
    reachable_folder: Path, start_unprivileged: StartUnprivileged
) -> None:
    passwords, ours = reachable_folder / "passwords", reachable_folder / "ours"
    write_user(ours, ALICE, ALICES, iterations=1000)
    give_to_broker(ours)
    mosquitto = start_unprivileged(*mounting(ours, passwords))
    address = ConnectOptions(host="127.0.0.1", port=mosquitto.port)
    outcome = provision(
        Request(
            username="bob",
            password=b"rose",
            password_file=ours,
            config=reachable_folder / "mosquitto.conf",
            address=address,
            iterations=1000,
        )
    )
    assert isinstance(outcome.failure, ProofError)
    assert f"still sees the old {str(passwords)!r}, mounted by itself" in str(outcome.failure)
