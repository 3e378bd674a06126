"""What may be a user name or a password, and what is refused before it is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.errors import ConfigError
from plantops_cli.mosquitto.text.logins import (
    check_password,
    check_username,
    cut_name,
    password_notices,
    why_no_username,
)
from plantops_cli.mosquitto.text.passwords import find_entry, upsert_entry
from tests.support.password_entries import ENTRY


@pytest.mark.parametrize("username", ["plantops_backend", "gärtner", "a b", "o'neil/x", "名前", "x" * 65_535])
def test_a_name_that_can_log_in_is_allowed(username: str) -> None:
    check_username(username)


@pytest.mark.parametrize(
    ("username", "reason"),
    [
        ("", "empty"),
        (" x", "blank"),
        ("x\u00a0", "blank"),
        ("#x", "comment"),
        ("a:b", "':'"),
        ("a\tb", "control"),
        ("a\n", "control"),
        ("a\0", "control"),
        ("a\x85b", "control"),
        ("\udcff", "UTF-8"),
        ("a\ufffe", "noncharacter"),
        ("a\U0010ffff", "noncharacter"),
        ("a+", r"'\+'"),
        ("a#b", "'#'"),
        ("ä" * 32_768, "65,535"),
    ],
)
def test_a_name_that_cannot_log_in_is_refused_with_the_reason(username: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        check_username(username)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()


@given(st.text(st.characters()))
def test_any_name_is_allowed_or_refused(username: str) -> None:
    try:
        check_username(username)
    except ConfigError:
        return
    assert find_entry(upsert_entry(b"", username, ENTRY), username) == ENTRY


@pytest.mark.parametrize("password", [b"x", b"  blanks  ", b"a:b:c$d #e", b"\xff\xfe\x80", b"x" * 65_535])
def test_a_password_that_can_log_in_is_allowed(password: bytes) -> None:
    check_password(password)


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        (b"", "empty"),
        (b"abc\0def", "NUL"),
        (b"abc\n", "line break"),
        (b"abc\r", "line break"),
        (b"a\x1bbc", "control"),
        (b"abc\x7f", "control"),
        (b"x" * 65_536, "65,535"),
    ],
)
def test_a_password_that_cannot_log_in_is_refused_without_being_shown(password: bytes, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        check_password(password)
    assert "abc" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize("password", [b"a\x1bbc", b"abc\x7f", b"a\tb"])
def test_a_control_character_is_allowed_when_asked(password: bytes) -> None:
    with pytest.raises(ConfigError, match="control"):
        check_password(password)
    check_password(password, allow_control=True)


@pytest.mark.parametrize("password", [b"", b"a\0b", b"a\r", b"a\n", b"x" * 65_536])
def test_what_cannot_work_is_not_allowed_even_when_asked(password: bytes) -> None:
    with pytest.raises(ConfigError):
        check_password(password, allow_control=True)


@pytest.mark.parametrize("password", [b" abc", b"abc ", b"\tabc"])
def test_a_blank_at_an_end_of_a_password_is_told_without_showing_it(password: bytes) -> None:
    (notice,) = password_notices(password)
    assert "blank" in notice
    assert "abc" not in notice


@pytest.mark.parametrize("password", [b"a b", b"\xff", b"x"])
def test_other_passwords_have_no_notice(password: bytes) -> None:
    assert password_notices(password) == []


def test_of_a_name_that_may_hold_a_password_nothing_behind_the_colon_is_shown() -> None:
    with pytest.raises(ConfigError, match="alice:") as refused:
        check_username("alice:hunter2")
    assert "hunter2" not in f"{refused.value} {refused.value.hint}"


def test_the_reason_is_the_end_of_a_sentence_about_the_name() -> None:
    assert why_no_username("a+") == "contains '+' or '#', which Mosquitto denies where an ACL has patterns"
    assert why_no_username("alice") is None


@pytest.mark.parametrize(("name", "shown"), [("x" * 80, "x" * 80), ("x" * 81, "x" * 79 + "…")])
def test_a_long_name_is_cut_for_a_message(name: str, shown: str) -> None:
    assert cut_name(name) == shown
