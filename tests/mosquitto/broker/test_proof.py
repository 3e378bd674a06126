import asyncio
import logging
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from plantops_cli.errors import (
    BrokerUnreachableError,
    ConfigError,
    CredentialsRefusedError,
    ProofError,
    ProtocolRefusedError,
)
from plantops_cli.mosquitto.broker.proof import (
    LoginAnswer,
    Proof,
    log_in,
    probe_acl,
    prove_login,
    prove_removal,
    refuses_publish,
    with_wrong_password,
)
from plantops_cli.mosquitto.files.password_file import write_user
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.session import open_session
from plantops_cli.stream.tls import TLSOptions
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto, free_port
from tests.support.certificates import Certificates
from tests.support.scripted_broker import CLOSE, CONNECT, ScriptedBroker, serving

PUBLISH = 0x30
READ_ONLY = f"user {USERNAME}\ntopic read devices/+/telemetry\ntopic read devices/+/heartbeat\n"
LISTENER = "listener {port} 127.0.0.1"
PATIENCE_SECONDS = 0.4
WAIT_SECONDS = 10.0
NEW_PASSWORD = "a new one that is not to be seen"


def options_for(broker: Mosquitto | ScriptedBroker, *, password: str | None = PASSWORD) -> ConnectOptions:
    return ConnectOptions(host="127.0.0.1", port=broker.port, username=USERNAME, password=password)


async def prove(
    broker: Mosquitto | ScriptedBroker, *, password: str = PASSWORD, is_acl_in_force: bool = False
) -> Proof:
    options = options_for(broker, password=password)
    return await prove_login(options, is_acl_in_force=is_acl_in_force, patience_seconds=PATIENCE_SECONDS)


@contextmanager
def running(
    folder: Path, extra: str = "", *, acl: str | None = None, listener: str = LISTENER
) -> Iterator[Mosquitto]:
    if acl is not None:
        (folder / "acl").write_text(acl)
        extra += f"\nacl_file {folder / 'acl'}"
    broker = Mosquitto(folder, extra=extra, listener=listener)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def hang_up(broker: Mosquitto) -> None:
    assert broker.process is not None
    broker.process.send_signal(signal.SIGHUP)


async def reload(broker: Mosquitto) -> None:
    """Let an idle broker read its files again; it looks for signals every 0.1 s."""
    hang_up(broker)
    await asyncio.sleep(0.25)


@contextmanager
def reload_later(broker: Mosquitto, *, seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, hang_up, [broker])
    timer.start()
    try:
        yield
    finally:
        timer.join()


def log_of(broker: Mosquitto) -> str:
    return (broker.folder / "log").read_text()


@pytest.fixture(scope="module")
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker as it should be: a login, and an ACL that lets it read."""
    with running(tmp_path_factory.mktemp("read-only"), acl=READ_ONLY) as broker:
        yield broker


async def test_a_right_password_is_accepted_and_publishing_is_refused(read_only: Mosquitto) -> None:
    proof = await prove(read_only, is_acl_in_force=True)
    assert proof.endpoint == f"127.0.0.1:{read_only.port}"
    assert proof.accepted_after_seconds < 2
    assert (proof.is_anonymous_accepted, proof.is_publish_refused, proof.notices) == (False, True, ())


@pytest.mark.parametrize("password", [PASSWORD, PASSWORD.encode()])
async def test_a_password_may_be_text_or_bytes(read_only: Mosquitto, password: str | bytes) -> None:
    assert await log_in(replace(options_for(read_only), password=password)) is LoginAnswer.ACCEPTED


async def test_a_wrong_password_and_an_anonymous_client_are_refused(read_only: Mosquitto) -> None:
    options = options_for(read_only)
    assert await log_in(with_wrong_password(options)) is LoginAnswer.REFUSED
    assert await log_in(replace(options, username=None, password=None)) is LoginAnswer.REFUSED


def test_a_wrong_password_is_another_one_each_time() -> None:
    options = ConnectOptions(host="h", username=USERNAME, password=PASSWORD)
    wrong = {with_wrong_password(options).password for _ in range(3)}
    assert len(wrong - {PASSWORD}) == 3


async def test_a_password_that_stays_refused_is_no_proof(read_only: Mosquitto) -> None:
    with pytest.raises(ProofError, match="refuses 'plantops_backend' with the right password") as caught:
        await prove(read_only, password=NEW_PASSWORD)
    assert "another password file, or was not reloaded" in str(caught.value)


async def test_the_caller_explains_a_refusal_when_it_can(read_only: Mosquitto) -> None:
    with pytest.raises(ProofError, match="still sees the old file"):
        await prove_login(
            options_for(read_only, password=NEW_PASSWORD),
            is_acl_in_force=True,
            patience_seconds=0.0,
            explain_refusal=lambda: "its container still sees the old file",
        )


async def test_the_caller_is_asked_for_nothing_when_the_login_works(read_only: Mosquitto) -> None:
    def explain() -> str | None:
        raise AssertionError("asked")

    await prove_login(options_for(read_only), is_acl_in_force=True, explain_refusal=explain)


async def test_a_login_refused_for_good_costs_the_broker_at_most_five_refusals(tmp_path: Path) -> None:
    with running(tmp_path, "log_type all") as broker, pytest.raises(ProofError):
        await prove(broker, password=NEW_PASSWORD)
    # read when the broker has stopped: it writes of a refusal after it has sent it
    assert 1 <= log_of(broker).count("not authorised") <= 5
    assert log_of(broker).count("New client connected") == 0


async def test_a_login_accepted_at_the_last_moment_costs_the_broker_at_most_five_refusals(tmp_path: Path) -> None:
    with running(tmp_path, "log_type all") as broker:
        write_user(tmp_path / "passwords", USERNAME, NEW_PASSWORD.encode())
        with reload_later(broker, seconds=0.35):
            options = options_for(broker, password=NEW_PASSWORD)
            proof = await prove_login(options, is_acl_in_force=False, patience_seconds=1.2)
        assert 0.35 <= proof.accepted_after_seconds < 3
    assert 1 <= log_of(broker).count("not authorised") <= 5


async def test_a_reload_that_comes_a_second_late_is_waited_for(tmp_path: Path) -> None:
    with running(tmp_path) as broker:
        write_user(tmp_path / "passwords", USERNAME, NEW_PASSWORD.encode())
        with reload_later(broker, seconds=1.0):
            proof = await prove_login(options_for(broker, password=NEW_PASSWORD), is_acl_in_force=False)
        assert 1.0 <= proof.accepted_after_seconds < 5


async def test_an_anonymous_client_that_is_accepted_is_a_notice(tmp_path: Path) -> None:
    with running(tmp_path, "allow_anonymous true", acl=READ_ONLY) as broker:
        proof = await prove(broker, is_acl_in_force=True)
    assert proof.is_anonymous_accepted
    (notice,) = proof.notices
    assert "anonymous" in notice


async def test_a_broker_without_an_acl_is_a_notice(mosquitto: Mosquitto) -> None:
    proof = await prove(mosquitto)
    assert proof.is_publish_refused is False
    (notice,) = proof.notices
    assert "no ACL keeps 'plantops_backend'" in notice


@pytest.mark.parametrize("is_acl_in_force", [True, False])
async def test_a_broker_that_takes_any_password_is_open(tmp_path: Path, is_acl_in_force: bool) -> None:
    """A reload without its password file opens Mosquitto 2.0 to everybody."""
    with running(tmp_path, "allow_anonymous true", acl=READ_ONLY) as broker:
        (tmp_path / "passwords").unlink()
        await reload(broker)
        with pytest.raises(
            ProofError, match="is open: it accepts 'plantops_backend' with a random wrong"
        ) as caught:
            await prove(broker, is_acl_in_force=is_acl_in_force)
    assert "allow_anonymous true" in str(caught.value.hint)


@pytest.mark.parametrize(("anonymous", "complaint"), [("true", "is open"), ("false", "refuses")])
async def test_a_broker_without_a_password_file_fails_the_proof(
    tmp_path: Path, anonymous: str, complaint: str
) -> None:
    with running(tmp_path) as broker:
        config = tmp_path / "mosquitto.conf"
        kept = [line for line in config.read_text().splitlines() if not line.startswith("password_file")]
        config.write_text("\n".join([*kept, f"allow_anonymous {anonymous}"]) + "\n")
        await reload(broker)
        with pytest.raises(ProofError, match=complaint):
            await prove(broker)


async def test_an_acl_that_a_reload_has_switched_off_is_found_out(tmp_path: Path) -> None:
    with running(tmp_path, acl=READ_ONLY) as broker:
        assert (await prove(broker, is_acl_in_force=True)).is_publish_refused
        (tmp_path / "acl").write_text(READ_ONLY + "  # an indented comment\n")
        await reload(broker)
        with pytest.raises(ProofError, match="ACL is not in force for 'plantops_backend'"):
            await prove(broker, is_acl_in_force=True)


async def test_a_user_with_wider_rights_than_reading_fails_where_an_acl_is_in_force(tmp_path: Path) -> None:
    with (
        running(tmp_path, acl=f"user {USERNAME}\ntopic readwrite #\n") as broker,
        pytest.raises(ProofError, match="may publish"),
    ):
        await prove(broker, is_acl_in_force=True)


async def test_a_removed_login_is_refused_in_the_end(tmp_path: Path) -> None:
    with running(tmp_path) as broker:
        (tmp_path / "passwords").write_bytes(b"")
        with reload_later(broker, seconds=0.15):
            proof = await prove_removal(options_for(broker), patience_seconds=1.0)
    assert proof.refused_after_seconds is not None
    assert proof.refused_after_seconds > 0.1
    assert proof.notices == ()


async def test_a_removed_login_that_stays_accepted_is_an_error(mosquitto: Mosquitto) -> None:
    with pytest.raises(ProofError, match="still accepts 'plantops_backend': the old inode"):
        await prove_removal(
            options_for(mosquitto), patience_seconds=0.1, explain_acceptance=lambda: "the old inode"
        )


@pytest.mark.parametrize("password", [None, ""])
async def test_without_its_password_a_removal_is_not_proven_and_says_so(password: str | None) -> None:
    options = ConnectOptions(host="127.0.0.1", port=free_port(), username=USERNAME, password=password)
    proof = await prove_removal(options)
    assert proof.refused_after_seconds is None
    assert "not proven" in proof.notices[0]


@pytest.mark.parametrize(("username", "password"), [(None, PASSWORD), (USERNAME, None), (USERNAME, "")])
async def test_there_must_be_a_login_to_prove(username: str | None, password: str | None) -> None:
    options = ConnectOptions(host="127.0.0.1", port=free_port(), username=username, password=password)
    with pytest.raises(ConfigError):
        await prove_login(options, is_acl_in_force=False)


async def test_a_removal_needs_a_user_name() -> None:
    with pytest.raises(ConfigError):
        await prove_removal(ConnectOptions(host="127.0.0.1", port=free_port(), password=PASSWORD))


@pytest.mark.parametrize("answer", [None, CLOSE])
async def test_a_broker_that_says_nothing_neither_accepts_nor_refuses(answer: bytes | None) -> None:
    async with serving(ScriptedBroker(answers=[answer])) as broker, asyncio.timeout(WAIT_SECONDS):
        options = replace(options_for(broker), timeout_seconds=0.1)
        with pytest.raises(BrokerUnreachableError):
            await prove_login(options, is_acl_in_force=False, patience_seconds=4 * PATIENCE_SECONDS)
        assert broker.connection_count > 1


async def test_no_broker_at_all_is_unreachable_after_the_patience() -> None:
    with pytest.raises(BrokerUnreachableError, match="nothing listens there"):
        await prove(ScriptedBroker(port=free_port()))


@pytest.mark.parametrize("silence", [CLOSE, 0x88, 0x97])
async def test_a_busy_broker_is_asked_again(silence: int | bytes) -> None:
    async with serving(ScriptedBroker(answers=[silence, 0x87, 0])) as broker:
        options = replace(options_for(broker), mqtt_version=MQTTVersion.V5)
        with pytest.raises(ProofError, match="is open"):  # the script accepts everybody from the third on
            await prove_login(options, is_acl_in_force=False, patience_seconds=PATIENCE_SECONDS)
        assert broker.connection_count == 4


async def test_what_client_and_broker_cannot_agree_on_is_raised_at_once() -> None:
    async with serving(ScriptedBroker(answers=[0x8C])) as broker:
        with pytest.raises(ProtocolRefusedError):
            await prove(broker)
        assert broker.connection_count == 1


@pytest.mark.parametrize("version", [MQTTVersion.V311, MQTTVersion.AUTO])
async def test_mqtt_3_1_1_cannot_tell_whether_publishing_is_refused(version: MQTTVersion) -> None:
    answers = [0, 5, 5] if version is MQTTVersion.V311 else [0x84, 0, 0x84, 5, 0x84, 5, 0x84, 0]
    async with serving(ScriptedBroker(answers=answers)) as broker:
        options = replace(options_for(broker), mqtt_version=version)
        proof = await prove_login(options, is_acl_in_force=True, patience_seconds=PATIENCE_SECONDS)
        assert broker.of_kind(PUBLISH) == []
    assert proof.is_publish_refused is None
    assert "MQTT 3.1.1" in proof.notices[0]


@pytest.mark.parametrize(
    ("code", "is_refused"), [(0x00, False), (0x10, False), (0x87, True), (0x80, None), (0x97, None)]
)
async def test_the_puback_tells_whether_publishing_is_refused(code: int, is_refused: bool | None) -> None:
    async with serving(ScriptedBroker()) as broker, asyncio.timeout(WAIT_SECONDS):
        probing = asyncio.create_task(probe_acl(options_for(broker)))
        await broker.wait_for(PUBLISH)
        (packet,) = broker.of_kind(PUBLISH)
        size = int.from_bytes(packet.body[:2], "big")
        assert packet.body[2 : 2 + size].startswith(b"plantops/selfcheck/")
        await broker.send(b"\x40\x03" + packet.body[2 + size : 4 + size] + bytes([code]))
        assert await probing == (is_refused, code)
    assert refuses_publish(code) is is_refused


async def test_each_login_has_a_client_id_of_its_own_and_a_clean_session() -> None:
    async with serving(ScriptedBroker(answers=[0x87])) as broker:
        with pytest.raises(ProofError):
            await prove(broker)
        connects = broker.of_kind(CONNECT)
        assert len({packet.body[11:40] for packet in connects}) == len(connects) == 4
        assert all(packet.body[7] & 0x02 for packet in connects)


async def test_nothing_is_left_on_the_broker_for_later_subscribers(mosquitto: Mosquitto) -> None:
    await prove(mosquitto)
    options = options_for(mosquitto)
    session = await open_session(options, lambda status: None)
    try:
        await session.subscribe({"plantops/selfcheck/#": 1})
        await asyncio.sleep(0.1)
        assert session.held == 0
    finally:
        await session.close()


async def test_a_unix_socket_carries_the_proof() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listener = f"{LISTENER}\nlistener 0 {folder / 's'}"
        with running(folder, acl=READ_ONLY, listener=listener) as broker:
            assert (folder / "s").is_socket()
            options = replace(options_for(broker), port=1, unix_socket=str(folder / "s"))
            proof = await prove_login(options, is_acl_in_force=True)
    assert proof.endpoint == str(folder / "s")
    assert proof.is_publish_refused


def tls_broker(folder: Path, certificates: Certificates, extra: str = "") -> AbstractContextManager[Mosquitto]:
    listener = (
        f"{LISTENER}\ncafile {certificates.ca}\n"
        f"certfile {certificates.server_cert}\nkeyfile {certificates.server_key}\n{extra}"
    )
    return running(folder, acl=READ_ONLY, listener=listener)


async def test_a_tls_listener_carries_the_proof(tmp_path: Path, certificates: Certificates) -> None:
    with tls_broker(tmp_path, certificates) as broker:
        options = replace(options_for(broker), tls=TLSOptions(cafile=certificates.ca))
        assert (await prove_login(options, is_acl_in_force=True)).is_publish_refused


async def test_a_listener_that_goes_by_client_certificates_is_explained(
    tmp_path: Path, certificates: Certificates
) -> None:
    with tls_broker(tmp_path, certificates, "require_certificate true\nuse_identity_as_username true") as broker:
        tls = TLSOptions(certificates.ca, certificates.client_cert, certificates.client_key)
        with pytest.raises(ProofError) as caught:
            await prove_login(replace(options_for(broker), tls=tls), is_acl_in_force=True)
    assert "use_identity_as_username" in str(caught.value.hint)


async def test_neither_errors_nor_logs_show_a_password(
    read_only: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ProofError) as caught:
        await prove(read_only, password=NEW_PASSWORD)
    shown = f"{caught.value!r} {caught.value.hint} {caught.value.__cause__!r} {caplog.text}"
    assert NEW_PASSWORD not in shown
    assert CredentialsRefusedError.__name__ not in str(caught.value)


async def test_a_proof_that_is_cancelled_leaves_no_task() -> None:
    async with serving(ScriptedBroker(answers=[None])) as broker:
        before = asyncio.all_tasks()
        proving = asyncio.create_task(prove(broker))
        await broker.wait_for(CONNECT)
        proving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await proving
        await asyncio.sleep(0.05)
        ours = {task for task in asyncio.all_tasks() - before if task.get_name() != "scripted-broker"}
        assert ours == set()
