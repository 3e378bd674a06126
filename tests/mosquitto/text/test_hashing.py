"""Entries of Mosquitto's password file, and what a real broker makes of them."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.errors import ConfigError
from plantops_cli.mosquitto.text.hashing import (
    COSTLY_ITERATIONS,
    MAX_ITERATIONS,
    MIN_ITERATIONS,
    costly_warning,
    entry_kind,
    generate_password,
    hash_password,
    is_argon2,
    is_weaker,
    measure_login_seconds,
    parse_entry,
    verify_password,
)
from plantops_cli.mosquitto.text.logins import check_password
from plantops_cli.mosquitto.text.passwords import find_entry, upsert_entry
from tests.mosquitto.conftest import StartMosquitto
from tests.support.password_entries import (
    ARGON2_ENTRY,
    ENTRY,
    LONG_SALT_ENTRY,
    REFERENCE_KEYS,
    SALT,
    SHA512_ENTRY,
    TOOL_ENTRIES,
)

ACCEPTED, REFUSED = 0, 5


@pytest.mark.parametrize(("password", "entry"), TOOL_ENTRIES.values(), ids=TOOL_ENTRIES)
def test_an_entry_of_mosquitto_passwd_verifies_its_own_password_only(password: bytes, entry: str) -> None:
    assert verify_password(password, entry)
    assert not verify_password(password + b"x", entry)


@pytest.mark.parametrize("iterations", [1_000, 10_000])
def test_an_entry_is_pbkdf2_hmac_sha512_with_a_12_byte_salt_and_a_padded_64_byte_key(iterations: int) -> None:
    _, kind, rounds, salt, key = hash_password(b"s3cr3t", iterations=iterations).split("$")
    assert (kind, int(rounds), len(base64.b64decode(salt))) == ("7", iterations, 12)
    assert base64.b64decode(key) == hashlib.pbkdf2_hmac(
        "sha512", b"s3cr3t", base64.b64decode(salt), iterations, 64
    )


@pytest.mark.parametrize(
    "entry",
    [*(f"$7${iterations}${SALT}${key}" for iterations, key in REFERENCE_KEYS.items()), SHA512_ENTRY],
)
def test_an_entry_of_the_reference_verifies_its_own_password_only(entry: str) -> None:
    assert verify_password(b"s3cr3t", entry)
    assert not verify_password(b"s3cr3T", entry)


def test_an_argon2id_entry_never_verifies() -> None:
    assert not verify_password(b"s3cr3t", ARGON2_ENTRY)


def test_each_entry_has_a_salt_of_its_own() -> None:
    assert len({hash_password(b"x", iterations=1000) for _ in range(50)}) == 50


@given(st.binary(max_size=200))
def test_every_password_verifies_against_its_own_hash(password: bytes) -> None:
    assert verify_password(password, hash_password(password, iterations=1000))


@given(st.text())
def test_text_that_is_no_entry_is_harmless_to_every_reader(junk: str) -> None:
    assert not verify_password(b"s3cr3t", junk)
    assert not is_weaker(junk, 1000)
    assert entry_kind(junk) == "malformed"


@pytest.mark.parametrize("iterations", ["0", "-1", "10000001", "2147483647", "9" * 10, "9" * 5000, "1_0", "", "x"])
def test_an_entry_with_absurd_iterations_is_refused_without_hashing(iterations: str) -> None:
    assert not verify_password(b"s3cr3t", ENTRY.replace("$7$1000$", f"$7${iterations}$"))


def test_of_a_kind_that_is_not_known_only_a_number_is_shown() -> None:
    # a password may look so too
    assert entry_kind("$hunter2$correct-horse-battery-staple") == "unknown kind"


@pytest.mark.parametrize("broken", [ENTRY[1:], ENTRY[:-2], ENTRY + "\n", ENTRY + "$", ENTRY.replace("$7$", "$8$")])
def test_a_malformed_entry_does_not_verify(broken: str) -> None:
    assert not verify_password(b"s3cr3t", broken)


@pytest.mark.parametrize("iterations", [0, -1, 1, 999, 1_000_001, 2**31, 10**12])
def test_iterations_out_of_range_are_refused_naming_the_bounds(iterations: int) -> None:
    with pytest.raises(ConfigError, match="1,000 to 1,000,000"):
        hash_password(b"x", iterations=iterations)


@pytest.mark.parametrize("iterations", [MIN_ITERATIONS, MAX_ITERATIONS])
def test_the_bounds_of_the_iterations_are_allowed(iterations: int) -> None:
    assert hash_password(b"x", iterations=iterations).startswith(f"$7${iterations}$")


@pytest.mark.parametrize("call", ["hash_password(b'x')", f"verify_password(b'x', {SHA512_ENTRY!r})"])
def test_an_openssl_that_refuses_the_algorithm_is_a_clean_error(tmp_path: Path, call: str) -> None:
    config = tmp_path / "openssl.cnf"
    # without a FIPS provider to fulfil it, this wish makes OpenSSL refuse every algorithm
    config.write_text("openssl_conf = a\n[a]\nalg_section = b\n[b]\ndefault_properties = fips=yes\n")
    script = f"""
import logging
logging.disable()
from plantops_cli.errors import ConfigError
from plantops_cli.mosquitto.text.hashing import *
try:
    {call}
except ConfigError as exc:
    print(exc)
"""
    environment = {**os.environ, "OPENSSL_CONF": str(config), "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "this Python's OpenSSL refuses to hash as Mosquitto does (SHA-512, PBKDF2)\n"


def test_a_costly_hash_is_warned_of_with_its_time_and_the_reason() -> None:
    warning = costly_warning(210_000, 0.17)
    assert warning is not None
    assert all(words in warning for words in ("210,000", "170 ms", "only thread", "every connected client"))


def test_up_to_100_000_iterations_there_is_no_warning() -> None:
    assert costly_warning(COSTLY_ITERATIONS, 9.9) is None
    assert costly_warning(COSTLY_ITERATIONS + 1, 0.001) is not None


def test_the_time_of_a_login_is_measured() -> None:
    begin = time.process_time()
    hash_password(b"x", iterations=100_000)
    actual = time.process_time() - begin
    # a wide band and the best of five, because other programs run on this machine too
    assert actual / 10 < min(measure_login_seconds(100_000) for _ in range(5)) < actual * 10


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (ENTRY, "PBKDF2-SHA512, 1,000 iterations"),
        (LONG_SALT_ENTRY, "PBKDF2-SHA512, 1,000 iterations, 64-byte salt"),
        (SHA512_ENTRY, "SHA-512"),
        (TOOL_ENTRIES["2.1.2 -H sha512"][1], "SHA-512, 64-byte salt"),
        (ARGON2_ENTRY, "argon2id"),
        (ENTRY.replace("$7$", "$8$"), "unknown kind ($8$)"),
        (SHA512_ENTRY.replace("$6$", "$12$"), "unknown kind ($12$)"),
        (ARGON2_ENTRY.replace("argon2id", "argon2i"), "unknown kind ($argon2i$)"),
        ("$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe", "unknown kind"),
        (
            "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
            "unknown kind",
        ),
        ("$8$short", "malformed"),
        ("$hunter2$ and a blank that no hash has", "malformed"),
        (ENTRY.replace("$1000$", "$0$"), "malformed"),
        (ENTRY.replace("$1000$", "$2147483648$"), "malformed"),
        ("plain", "malformed"),
        ("", "malformed"),
    ],
)
def test_an_entry_has_a_name_for_its_kind(entry: str, kind: str) -> None:
    assert entry_kind(entry) == kind


@pytest.mark.parametrize(
    ("entry", "weaker"),
    [
        (SHA512_ENTRY, True),
        (LONG_SALT_ENTRY, True),
        (ENTRY, False),
        (ENTRY.replace("$1000$", "$999$"), True),
        (ENTRY.replace("$1000$", "$1001$"), False),
        (ARGON2_ENTRY, False),
        ("plain", False),
    ],
)
def test_an_entry_is_weaker_that_hashing_anew_would_mend(entry: str, weaker: bool) -> None:
    assert is_weaker(entry, 1000) is weaker


def test_a_generated_password_has_256_bits_and_can_be_typed() -> None:
    password = generate_password()
    assert re.fullmatch(rb"[A-Za-z0-9_-]{43}", password)
    assert password != generate_password()
    check_password(password)


@pytest.mark.parametrize("iterations", [1_000, 10_000, 210_000])
def test_a_real_broker_accepts_an_entry_of_ours_and_no_other_password(
    tmp_path: Path, start_mosquitto: StartMosquitto, iterations: int
) -> None:
    path = tmp_path / "passwd"
    path.write_bytes(upsert_entry(b"", "bob", hash_password(b"s3cr3t", iterations=iterations)))
    broker = start_mosquitto(path)
    assert broker.connack("bob", b"s3cr3t") == ACCEPTED
    assert broker.connack("bob", b"s3cr3T") == REFUSED


def test_a_real_broker_agrees_about_the_entries_of_others(tmp_path: Path, start_mosquitto: StartMosquitto) -> None:
    known = [(b"s3cr3t", SHA512_ENTRY), *TOOL_ENTRIES.values()]
    path = tmp_path / "passwd"
    path.write_text("".join(f"user{number}:{entry}\n" for number, (_, entry) in enumerate(known)))
    broker = start_mosquitto(path)
    # Mosquitto 2.0 does not read a salt of 64 bytes, which is what is_weaker is for
    expected = [REFUSED if "64-byte salt" in entry_kind(entry) else ACCEPTED for _, entry in known]
    assert [broker.connack(f"user{n}", password) for n, (password, _) in enumerate(known)] == expected
    assert [broker.connack(f"user{n}", b"wrong") for n, _ in enumerate(known)] == [REFUSED] * len(known)


@pytest.mark.parametrize("options", [[], ["-H", "sha512"], ["-I", "5000"]], ids=" ".join)
def test_an_entry_of_the_installed_tool_verifies(tmp_path: Path, options: list[str]) -> None:
    tool = shutil.which("mosquitto_passwd")
    assert tool, "mosquitto_passwd is not installed"
    path = tmp_path / "passwd"
    subprocess.run(
        [tool, "-c", *options, "-b", path, "bob", "s3cr3t"], check=True, capture_output=True, timeout=60
    )
    entry = find_entry(path.read_bytes(), "bob")
    assert entry is not None
    assert verify_password(b"s3cr3t", entry)
    assert not verify_password(b"s3cr3T", entry)
    assert entry_kind(entry) != "malformed"


def test_the_repr_of_an_entry_shows_neither_salt_nor_key() -> None:
    entry = parse_entry(ENTRY)
    assert entry is not None
    assert repr(entry) == "Entry(iterations=1000)"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [(ARGON2_ENTRY, True), ("$argon2id$", False), (f"{ARGON2_ENTRY} x", False), (ENTRY, False)],
)
def test_an_argon2id_entry_is_told_by_its_name(entry: str, expected: bool) -> None:
    assert is_argon2(entry) is expected
