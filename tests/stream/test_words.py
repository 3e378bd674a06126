"""What a broker says along with a reason code, and what becomes of it."""

import pytest

from plantops_cli.stream.words import NO_WORDS, Answer, Words, quoted, without_secrets, words_with

PASSWORD = "hunter2/?"


def words(**properties: object) -> Words:
    return Words.of(properties, secrets=(PASSWORD, b"of-bytes", None, ""))


def test_a_reason_and_a_server_are_found_and_said() -> None:
    said = words(ReasonString="too many clients", ServerReference="b.example:8883")
    assert said == Words("too many clients", "b.example:8883")
    assert str(said) == ": 'too many clients'; the server to use is 'b.example:8883'"


@pytest.mark.parametrize("properties", [{}, {"ReasonString": ""}, {"ReasonString": None}, {"ReceiveMaximum": 1}])
def test_who_says_nothing_is_silent(properties: dict[str, object]) -> None:
    assert words(**properties) == NO_WORDS
    assert str(NO_WORDS) == ""


@pytest.mark.parametrize("secret", [PASSWORD, "hunter2%2F%3F", "of-bytes"])
@pytest.mark.parametrize("name", ["ReasonString", "ServerReference"])
def test_a_password_that_the_broker_repeats_is_kept_out(name: str, secret: str) -> None:
    said = words(**{name: f"bad:{secret}!"})
    assert secret not in f"{said!r}{said}"
    assert "bad:...!" in str(said)


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("b.example:1883", "b.example:1883"),
        ("[2001:db8::1]:1883 b.example", "[2001:db8::1]:1883 b.example"),
        ("mqtts://alice:pw@b.example:8883", "mqtts://b.example:8883"),
        ("mqtts://alice:p/w@x@b.example", "mqtts://b.example"),
        ("alice:pw@b.example c.example", "b.example c.example"),
        ("a.example bob:pw@b.example", "a.example b.example"),
    ],
)
def test_a_server_is_said_without_a_login(told: str, kept: str) -> None:
    assert words(ServerReference=told).server == kept


def test_a_reason_keeps_an_address_for_mail_and_loses_the_login_of_a_url() -> None:
    said = words(ReasonString="ask ops@b.example, or see https://a:pw@b.example/x")
    assert said.reason == "ask ops@b.example, or see https://b.example/x"


@pytest.mark.parametrize("evil", ["\x1b[2J", "\r\nerror: all is well", "\u202etxt", "\x9b1m", "it's"])
def test_what_is_shown_is_one_line_that_commands_no_terminal(evil: str) -> None:
    shown = str(words(ReasonString=evil, ServerReference=evil))
    assert shown.isprintable()
    assert repr(evil) in shown


def test_what_is_shown_is_short_however_much_was_said() -> None:
    assert len(str(words(ReasonString="\x01" * 65_535))) < 900
    assert quoted("x" * 201) == repr("x" * 200) + "..."
    assert quoted("x" * 200) == repr("x" * 200)


def test_an_answer_is_its_reason_code_with_words() -> None:
    answer = Answer(0x87, Words("no"))
    assert answer == 0x87
    assert f"{answer:02x}" == "87"
    assert words_with(answer) == Words("no")
    assert words_with(0x87) == NO_WORDS


def test_a_secret_that_is_a_part_of_another_leaves_nothing_of_it() -> None:
    assert without_secrets("hunter2-long, hunter2", ["hunter2", "hunter2-long"]) == "..., ..."
