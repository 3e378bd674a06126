"""Provisioning from end to end, on real files and real brokers."""

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from plantops_cli.errors import BrokerFileError, ConfigError, ProofError
from plantops_cli.mosquitto.password_file import Action
from plantops_cli.mosquitto.passwords import find_entry, verify_password
from plantops_cli.mosquitto.proof import Proof, RemovalProof
from plantops_cli.mosquitto.provisioning import Mode, Request, provision
from plantops_cli.stream.options import ConnectOptions
from tests.brokers import PASSWORD, USERNAME, Mosquitto

NEW = "newcomer"
SECRET = b"tulip and rose"
OTHERS = b"user alice\ntopic readwrite #\n"


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    return Request(username=NEW, password=SECRET, password_file=tmp_path / "passwd", acl_file=tmp_path / "acl")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    (folder / "acl").write_bytes(OTHERS)
    (folder / "acl").chmod(0o600)
    running = Mosquitto(folder, extra=f"acl_file {folder / 'acl'}")
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


def test_login_and_right_are_made_together(request_: Request) -> None:
    outcome = provision(request_)
    assert outcome.login.action is Action.CREATED
    assert outcome.grant is not None
    assert outcome.grant.action == "created"
    assert logs_in(request_.password_file, NEW, SECRET)
    assert f"user {NEW}\ntopic read devices/+/telemetry\n".encode() in (request_.acl_file or Path()).read_bytes()


def test_a_second_run_changes_nothing(request_: Request) -> None:
    provision(request_)
    assert not provision(request_).is_changed


def test_a_right_without_its_login_is_taken_back(request_: Request) -> None:
    request_.password_file.write_bytes(b"listener 1883\n")
    with pytest.raises(BrokerFileError):
        provision(request_)
    assert request_.acl_file is not None
    assert not request_.acl_file.exists()


def test_a_login_that_cannot_be_written_takes_the_right_back_too(request_: Request, tmp_path: Path) -> None:
    # refused only when it comes to writing: the folder of the password file is gone by then
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "acl").write_bytes(OTHERS)
    request = replace(request_, password_file=folder / "passwd", on_ready=folder.rmdir)
    with pytest.raises(BrokerFileError, match="No such file"):
        provision(request)
    assert (tmp_path / "acl").read_bytes() == OTHERS


def test_an_acl_file_that_the_broker_would_refuse_stops_everything(request_: Request) -> None:
    assert request_.acl_file is not None
    request_.acl_file.write_bytes(b"user alice\n  # indented\n")
    with pytest.raises(BrokerFileError, match="line 2"):
        provision(request_)
    assert not request_.password_file.exists()


def test_a_dry_run_tells_and_writes_nothing(request_: Request, tmp_path: Path) -> None:
    called: list[int] = []
    outcome = provision(replace(request_, is_dry_run=True, on_ready=lambda: called.append(1)))
    assert outcome.login.action is Action.CREATED
    assert list(tmp_path.iterdir()) == []
    assert called == []


def test_the_caller_hears_when_all_checks_have_passed_and_only_then(request_: Request) -> None:
    called: list[bool] = []
    request = replace(request_, on_ready=lambda: called.append(request_.password_file.exists()))
    provision(request)
    provision(request)
    assert called == [False]


def test_a_removal_takes_login_and_right(request_: Request) -> None:
    provision(request_)
    outcome = provision(replace(request_, mode=Mode.REMOVE, password=None))
    assert outcome.login.action is Action.REMOVED
    assert outcome.grant is not None
    assert outcome.grant.action == "removed"
    assert NEW.encode() not in request_.password_file.read_bytes()
    assert request_.acl_file is not None
    assert NEW.encode() not in request_.acl_file.read_bytes()


def test_a_canary_that_lives_lets_the_files_be_written(request_: Request) -> None:
    assert provision(replace(request_, is_canary_wanted=True)).login.action is Action.CREATED


def test_a_canary_finds_rights_that_are_too_wide_before_anything_is_written(request_: Request) -> None:
    assert request_.acl_file is not None
    request_.acl_file.write_bytes(b"pattern readwrite #\n")
    with pytest.raises(ProofError):
        provision(replace(request_, is_canary_wanted=True))
    assert not request_.password_file.exists()
    assert request_.acl_file.read_bytes() == b"pattern readwrite #\n"


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


def test_a_login_that_is_not_allowed_is_refused_before_anything_is_made(request_: Request) -> None:
    with pytest.raises(ConfigError):
        provision(replace(request_, password=b"a\0b"))
    assert list(request_.password_file.parent.iterdir()) == []
