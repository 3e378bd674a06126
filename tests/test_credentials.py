"""Where a password comes from."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plantops_cli.credentials import (
    KeptPassword,
    choose_password,
    prompt_password,
    read_secret_file,
    write_secret_file,
)
from plantops_cli.errors import ConfigError
from tests.support.terminal import run_on_terminal

PROMPT = """
from plantops_cli.credentials import prompt_password
from plantops_cli.errors import ConfigError
try:
    print(prompt_password(confirm=True))
except ConfigError as exc:
    print(exc)
"""
READ_STDIN = """
from plantops_cli.credentials import read_secret_file
from plantops_cli.errors import ConfigError
try:
    print(read_secret_file("-"))
except ConfigError as exc:
    print(exc)
"""


@pytest.fixture(autouse=True)
def package_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    # the processes started here run in a folder of the test's, and the package need not be installed
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    return path


def choose(
    *,
    secret_file: str | None = None,
    ask: bool = False,
    environment: bytes | None = None,
    environment_file: Path | None = None,
) -> bytes | None:
    return choose_password(
        secret_file=secret_file, ask=ask, environment=environment, environment_file=environment_file
    )


def prompted(*answers: bytes) -> bytes:
    return run_on_terminal([sys.executable, "-c", PROMPT], answers=answers).stdout


def read_stdin(data: bytes) -> bytes:
    return subprocess.run([sys.executable, "-c", READ_STDIN], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"s3cr3t", b"s3cr3t"),
        (b"s3cr3t\n", b"s3cr3t"),
        (b"s3cr3t\r\n", b"s3cr3t"),
        (b"s3cr3t\n\n", b"s3cr3t\n"),
        (b"s3cr3t\r", b"s3cr3t\r"),
        (b"  s3cr3t  \n", b"  s3cr3t  "),
        (b"\xff\xfe\x80", b"\xff\xfe\x80"),
        (b"x" * 65_535 + b"\r\n", b"x" * 65_535),
        (b"\xef\xbb\xbfs3cr3t\r\n", b"s3cr3t"),
        (b"\xef\xbb\xbf" + b"x" * 65_535 + b"\r\n", b"x" * 65_535),
        (b"\xef\xbb\xbf\xef\xbb\xbfs3cr3t", b"\xef\xbb\xbfs3cr3t"),
        (b"'s3cr3t'\n", b"'s3cr3t'"),
    ],
)
def test_one_byte_order_mark_and_one_line_break_are_dropped_from_a_secret_file(
    secret_file: Path, content: bytes, password: bytes
) -> None:
    secret_file.write_bytes(content)
    assert read_secret_file(secret_file) == password


def test_standard_input_is_read_as_a_file_is() -> None:
    assert read_stdin(b" s3cr3t \r\n") == b"b' s3cr3t '\n"
    assert read_stdin(b"\n") == b"the password in standard input is empty\n"


@pytest.mark.parametrize(
    ("content", "is_remarked"),
    [
        (b"'s3cr3t'\n", True),
        (b'"s3cr3t"', True),
        (b"\xef\xbb\xbf''\r\n", True),
        (b"'s3cr3t", False),
        (b"s3'cr3t'\n", False),
        (b"'s3cr3t\"", False),
        (b"'\n", False),
    ],
)
def test_quotes_around_a_whole_password_are_kept_and_remarked_on(
    secret_file: Path, content: bytes, caplog: pytest.LogCaptureFixture, *, is_remarked: bool
) -> None:
    secret_file.write_bytes(content)
    password = read_secret_file(secret_file)
    assert password == content.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    assert choose(environment=password) == password
    remarks = [
        f"the quotes around the password in {where} are part of it (leave them out if they are not)"
        for where in (repr(str(secret_file)), "MQTT_BACKEND_PASSWORD")
    ]
    assert caplog.messages == (remarks if is_remarked else [])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_secret_file_in_utf_16_is_refused(secret_file: Path, encoding: str) -> None:
    secret_file.write_text("\ufeffs3cr3t\n", encoding=encoding)
    with pytest.raises(ConfigError, match="UTF-16") as refused:
        read_secret_file(secret_file)
    assert refused.value.hint == "save it as UTF-8"


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n", b"\xef\xbb\xbf\n"])
def test_an_empty_secret_file_is_refused(secret_file: Path, content: bytes) -> None:
    secret_file.write_bytes(content)
    with pytest.raises(ConfigError, match="empty"):
        read_secret_file(secret_file)


@pytest.mark.parametrize("content", [b"x" * 65_536, b"x" * 65_536 + b"\r\n", b"x" * 100_000])
def test_a_secret_file_with_more_than_a_password_is_refused(secret_file: Path, content: bytes) -> None:
    secret_file.write_bytes(content)
    with pytest.raises(ConfigError, match="65,535"):
        read_secret_file(secret_file)


@pytest.mark.parametrize("path", ["none", "x" * 300, "none/none", "nu\0l"])
def test_a_secret_file_that_is_not_there_is_refused_without_its_name_which_may_be_a_password(
    tmp_path: Path, path: str
) -> None:
    with pytest.raises(ConfigError, match=r"^secret_file: ") as refused:
        read_secret_file(tmp_path / path)
    assert refused.value.hint
    assert refused.value.__suppress_context__
    assert path not in f"{refused.value} {refused.value.hint}"


def test_a_dangling_link_is_there_and_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ConfigError, match=r"link': No such file"):
        read_secret_file(tmp_path / "link")


def test_of_a_variable_the_name_is_said_and_not_the_value() -> None:
    with pytest.raises(ConfigError, match=r"^MQTT_BACKEND_PASSWORD_FILE: No such file or directory$"):
        choose(environment_file=Path("tulip"))


def test_a_folder_is_no_secret_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="directory"):
        read_secret_file(tmp_path)


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="not a regular file"):
        read_secret_file(tmp_path / "fifo")


def test_a_symbolic_link_to_a_secret_file_is_followed(secret_file: Path) -> None:
    secret_file.write_bytes(b"s3cr3t\n")
    link = secret_file.with_name("link")
    link.symlink_to(secret_file)
    assert read_secret_file(link) == b"s3cr3t"


@pytest.mark.parametrize(("mode", "warnings"), [(0o604, 1), (0o660, 0)])
def test_a_secret_file_that_everybody_may_read_is_warned_of(
    secret_file: Path, mode: int, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    secret_file.write_bytes(b"s3cr3t")
    secret_file.chmod(mode)
    with caplog.at_level(logging.WARNING, "plantops.credentials"):
        assert read_secret_file(secret_file) == b"s3cr3t"
    assert len(caplog.records) == warnings
    assert "s3cr3t" not in caplog.text


def test_a_flag_outranks_the_environment(secret_file: Path) -> None:
    secret_file.write_bytes(b"from the flag")
    assert choose(secret_file=str(secret_file), environment=b"from the environment") == b"from the flag"


def test_a_password_in_the_environment_is_taken_as_it_is(secret_file: Path) -> None:
    secret_file.write_bytes(b"from a file\n")
    assert choose(environment=" pä$$ ".encode()) == " pä$$ ".encode()
    assert choose(environment=b"\xff") == b"\xff"
    assert choose(environment_file=secret_file) == b"from a file"


def test_without_a_source_there_is_no_password() -> None:
    assert choose() is None


def test_two_flags_are_refused(secret_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"secret_file and ask"):
        choose(secret_file=str(secret_file), ask=True)


def test_two_environment_variables_are_refused(secret_file: Path) -> None:
    with pytest.raises(ConfigError, match="MQTT_BACKEND_PASSWORD and MQTT_BACKEND_PASSWORD_FILE"):
        choose(environment=b"x", environment_file=secret_file)


def test_a_prompt_without_a_terminal_lists_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(ConfigError, match="terminal") as refused:
            prompt_password(confirm=False)
    for source in ("MQTT_BACKEND_PASSWORD", "MQTT_BACKEND_PASSWORD_FILE", "secret_file=FILE", "prompt"):
        assert source in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([b" s3cr3t \n", b" s3cr3t \n"], b"b' s3cr3t '\n"),
        ([b"s3cr3t\n", b"s3cr3T\n"], b"the two passwords differ\n"),
        ([b"\n"], b"the password is empty\n"),
        ([b"\x04"], b"the prompt for the password was closed\n"),
        ([b"\xff\xfe\n"], b"the terminal sent a password that is not text\n"),
    ],
    ids=["same", "different", "empty", "closed", "not UTF-8"],
)
def test_a_prompt_takes_what_was_typed_twice(answers: list[bytes], outcome: bytes) -> None:
    assert prompted(*answers) == outcome


def test_a_secret_is_written_for_its_owner_alone_and_read_back(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        write_secret_file(tmp_path / "secret", b"tulip \xff")
    finally:
        os.umask(old)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert read_secret_file(tmp_path / "secret") == b"tulip \xff"


@pytest.mark.parametrize("target", ["there", "nowhere"])
def test_a_secret_is_never_written_over_anything_nor_through_a_link(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").write_bytes(b"kept")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(ConfigError, match="exists already"):
        write_secret_file(tmp_path / "link", b"tulip")
    assert (tmp_path / "there").read_bytes() == b"kept"
    assert not (tmp_path / "nowhere").exists()


def test_a_secret_that_has_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        write_secret_file(tmp_path / "none" / "secret", b"tulip")


class Place:
    """Where a password stands; None: it cannot be read just now."""

    def __init__(self, password: bytes) -> None:
        self.password: bytes | None = password

    def read(self) -> bytes:
        if self.password is None:
            raise ConfigError("it is just being written")
        return self.password


def test_a_kept_password_stays_in_use_until_it_is_refused() -> None:
    place = Place(b"old")
    kept = KeptPassword(b"old", place.read)
    place.password = b"new"
    assert kept() == b"old"
    assert kept.note_refused()
    assert kept() == b"new"


def test_a_kept_password_that_is_refused_is_no_new_one() -> None:
    kept = KeptPassword(b"old", Place(b"old").read)
    assert not kept.note_refused()
    assert kept() == b"old"


def test_of_two_kept_passwords_that_are_refused_both_are_tried_in_turn() -> None:
    kept = KeptPassword(b"old", Place(b"new").read)
    tried = []
    for _ in range(4):
        kept.note_refused()
        tried.append(kept())
    assert tried == [b"new", b"old", b"new", b"old"]


def test_a_kept_password_that_was_right_may_be_refused_again() -> None:
    place = Place(b"new")
    kept = KeptPassword(b"old", place.read)
    kept.note_refused()
    kept.note_accepted()
    place.password = b"old"
    assert kept.note_refused()
    assert kept() == b"old"


def test_a_kept_password_survives_a_moment_in_which_it_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    place = Place(b"old")
    kept = KeptPassword(b"old", place.read)
    place.password = None
    assert not kept.note_refused()
    assert kept() == b"old"
    assert "it is just being written" in caplog.text
    place.password = b"new"
    assert kept.note_refused()
    assert kept() == b"new"
