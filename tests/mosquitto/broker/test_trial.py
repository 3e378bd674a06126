"""A trial of new files on a real broker of our own, and on programs that only bear its name."""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantops_cli.errors import BrokerFileError, ConfigError, ProofError
from plantops_cli.mosquitto.broker.trial import is_taken, try_files, why_it_ended
from plantops_cli.mosquitto.text.conf import FileKind
from plantops_cli.mosquitto.text.hashing import hash_password
from plantops_cli.mosquitto.text.passwords import upsert_entry
from tests.support.brokers import executable
from tests.support.password_entries import ARGON2_ENTRY

USERNAME = "plantops_backend"
PASSWORD = b"correct horse battery staple"
ENTRY = hash_password(PASSWORD, iterations=1000)
PASSWORDS = upsert_entry(b"# ours\n", USERNAME, ENTRY)
READ_ONLY = f"user {USERNAME}\ntopic read devices/+/telemetry\n".encode()

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a program as another user")


async def try_(
    *,
    passwords: bytes = PASSWORDS,
    acl: bytes | None = READ_ONLY,
    password: bytes = PASSWORD,
    timeout_seconds: float = 60.0,
    program: str | None = None,
) -> None:
    await try_files(
        program or executable(),
        passwords=passwords,
        acl=acl,
        username=USERNAME,
        password=password,
        timeout_seconds=timeout_seconds,
    )


def children() -> set[str]:
    """The programs that this process has started and that are still there, ended ones included."""
    own, found = os.getpid(), set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = status.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(rest.split()[1]) == own:
            found.add(name)
    return found


@pytest.fixture(autouse=True)
def private_temp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of our own, as pam_tmpdir gives one: closed to others. Nothing may be left in it."""
    before = children()
    with tempfile.TemporaryDirectory(prefix="t") as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)
        assert list(Path(name).iterdir()) == []
    assert children() == before


def script_in(folder: Path, script: str) -> str:
    """Put a program called mosquitto into a folder, and return its path."""
    path = folder / "mosquitto"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("acl", [READ_ONLY, None, b""])
async def test_good_files_pass(acl: bytes | None) -> None:
    await try_(acl=acl)


@pytest.mark.parametrize("iterations", [1_000, 10_000, 210_000])
async def test_entries_of_any_cost_pass(iterations: int) -> None:
    await try_(passwords=f"{USERNAME}:{hash_password(PASSWORD, iterations=iterations)}".encode())


async def test_it_takes_a_moment_only() -> None:
    took_seconds = []
    for _ in range(3):
        began = time.monotonic()
        await try_()
        took_seconds.append(time.monotonic() - began)
    assert min(took_seconds) < 2  # 0.03 s on an idle machine


@pytest.mark.parametrize(
    "acl",
    [
        READ_ONLY + b"  # an indented comment\n",
        READ_ONLY + b"topic read devices/+/a # a comment behind\n",
        b"\xef\xbb\xbf" + READ_ONLY,
        READ_ONLY + b"topic read a/b+\n",
        b"user \n",
    ],
)
async def test_an_acl_that_the_broker_does_not_read_is_refused_in_its_own_words(acl: bytes) -> None:
    with pytest.raises(BrokerFileError, match=r'does not start: .*acl file "acl"'):
        await try_(acl=acl)


@pytest.mark.parametrize(
    "passwords",
    [
        b"",
        b"somebody:" + ENTRY.encode() + b"\n",
        f"{USERNAME}:{ENTRY[:-9]}\n".encode(),
        f"{USERNAME}:{hash_password(b'another')}\n".encode(),
        f"#{USERNAME}:{ENTRY}\n".encode(),
    ],
    ids=["no user", "another user", "a cut entry", "another password", "a comment"],
)
async def test_a_login_that_does_not_work_fails_the_trial(passwords: bytes) -> None:
    with pytest.raises(ProofError, match=f"refuses '{USERNAME}' with the right password"):
        await try_(passwords=passwords)


async def test_an_acl_that_lets_the_user_publish_fails_the_trial() -> None:
    with pytest.raises(ProofError, match="publish where it should only read"):
        await try_(acl=f"user {USERNAME}\ntopic readwrite #\n".encode())


async def test_a_mosquitto_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "mosquitto").write_bytes(b"\x7fELF no program")
    (tmp_path / "mosquitto").chmod(0o755)
    with pytest.raises(ConfigError, match="cannot be run"):
        await try_(program=str(tmp_path / "mosquitto"))


async def test_a_mosquitto_that_never_listens_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(ProofError, match=r"no answer within 0\.2 s"):
        await try_(program=script_in(tmp_path, "exec sleep 60"), timeout_seconds=0.2)


async def test_a_mosquitto_that_ends_without_a_word_is_reported_with_its_exit_code(tmp_path: Path) -> None:
    with pytest.raises(BrokerFileError, match="exit code 3"):
        await try_(program=script_in(tmp_path, "exit 3"))


async def test_a_broker_that_prints_the_password_file_gives_no_hash_away(tmp_path: Path) -> None:
    script = 'sed "s/^/1: Error: Unable to read /" passwords >&2; echo "1: Error: bad file" >&2; exit 3'
    with pytest.raises(BrokerFileError) as caught:
        await try_(program=script_in(tmp_path, script))
    assert "Error: bad file" in str(caught.value)
    assert ENTRY[8:40] not in f"{caught.value!r} {caught.value.hint}"


async def test_the_broker_sees_none_of_our_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", "hunter2")
    monkeypatch.setenv("MQTT_ADMIN_PASSWORD", "hunter3")
    script = f"env > {tmp_path}/seen; tr '\\0' ' ' < /proc/$$/cmdline >> {tmp_path}/seen; exit 3"
    with pytest.raises(BrokerFileError):
        await try_(program=script_in(tmp_path, script))
    seen = (tmp_path / "seen").read_text()
    assert "-c mosquitto.conf" in seen
    assert not [word for word in ("hunter", ENTRY, PASSWORD.decode()) if word in seen]


async def test_the_files_are_closed_to_others(tmp_path: Path) -> None:
    script = f"stat -c '%a %n' . * > {tmp_path}/seen; exit 3"
    with pytest.raises(BrokerFileError):
        await try_(program=script_in(tmp_path, script))
    seen = dict(line.split()[::-1] for line in (tmp_path / "seen").read_text().splitlines())
    assert seen == {".": "700", "acl": "600", "mosquitto.conf": "600", "passwords": "600"}


@needs_root
async def test_started_by_root_the_broker_becomes_another_user_who_owns_the_folder(tmp_path: Path) -> None:
    script = f"stat -c %U . * > {tmp_path}/seen; grep ^user mosquitto.conf >> {tmp_path}/seen; exit 3"
    with pytest.raises(BrokerFileError):
        await try_(program=script_in(tmp_path, script))
    assert set((tmp_path / "seen").read_text().splitlines()) == {"mosquitto", "user mosquitto"}


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        ("password", PASSWORDS, True),
        ("password", f"alice:{ARGON2_ENTRY}\n".encode(), True),
        ("acl", READ_ONLY, True),
        ("acl", READ_ONLY + b"  # indented\n", False),
        ("psk", b"alice:c0ffee\n", True),
        ("psk", b"alice:no hex\n", False),
    ],
)
async def test_the_broker_says_of_a_single_file_whether_it_takes_it(
    kind: FileKind, content: bytes, expected: bool
) -> None:
    assert await is_taken(executable(), kind, content, timeout_seconds=60) is expected


@pytest.mark.parametrize("script", ["exit 3", "exec sleep 60"])
async def test_a_program_that_does_not_start_or_answer_takes_nothing(tmp_path: Path, script: str) -> None:
    assert not await is_taken(script_in(tmp_path, script), "acl", b"", timeout_seconds=0.3)


async def test_ten_trials_at_once_do_not_meet() -> None:
    await asyncio.gather(*(try_() for _ in range(10)))


@pytest.mark.parametrize("delay_seconds", [0, 0.002, 0.005, 0.01, 0.02, 0.03])
async def test_a_cancelled_trial_leaves_no_broker_and_no_folder(delay_seconds: float) -> None:
    slow = f"{USERNAME}:{hash_password(PASSWORD, iterations=100_000)}\n".encode()
    trial = asyncio.create_task(try_(passwords=slow))
    await asyncio.sleep(delay_seconds)
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial


async def test_a_long_temporary_folder_does_not_keep_the_socket_from_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    await try_()
    assert list(long.iterdir()) == []


async def test_a_temporary_folder_that_is_missing_is_an_error_of_the_settings(
    private_temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(private_temp / "gone"))
    with pytest.raises(ConfigError, match="no folder for a trial broker"):
        await try_()


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (b"", None),
        (b"1: mosquitto version 2.0.11 starting\n", None),
        (
            b"1: Error: Invalid line in acl_file.\n2: Error opening acl file.\n",
            "Error: Invalid line in acl_file. Err",
        ),
        (b"1: Error: Invalid password hash type for user x, removing entry.\n2: Error: bad\n", "Error: bad"),
        (b"1: Error: Invalid line in password file 'passwords': plain\n", "in password file 'passwords'"),
        (b"1: Error: x:$7$101$abc\n", None),
        (b"1: Error: x:$6$abc\n1: Error: x:$argon2id$abc\n", None),
    ],
)
def test_the_last_words_of_a_broker_hold_no_secret(log: bytes, reason: str | None) -> None:
    found = why_it_ended(log)
    assert reason in found if reason and found else found == reason
    assert "plain" not in str(found)
    assert "$" not in str(found)
