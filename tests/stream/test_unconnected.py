import errno
import socket
import ssl

import pytest

from plantops_cli.errors import (
    BrokerError,
    BrokerUnreachableError,
    CredentialsRefusedError,
    ProtocolRefusedError,
)
from plantops_cli.stream import failures, unconnected
from plantops_cli.stream.words import Words


def connect_failed(exc: Exception, *, is_tls: bool = False) -> BrokerError:
    return unconnected.connect_failed(exc, endpoint="h:1883", is_tls=is_tls)


def connect_refused(code: int, *, username: str | None = "alice", has_password: bool = True) -> BrokerError:
    return unconnected.connect_refused(
        code, "Some name", endpoint="h:1883", username=username, has_password=has_password
    )


@pytest.mark.parametrize("code", [0x86, 0x87])
def test_refused_credentials_name_the_user_and_are_final(code: int) -> None:
    error = connect_refused(code)
    assert isinstance(error, CredentialsRefusedError)
    assert not error.retryable
    assert "'alice'" in str(error)
    assert f"0x{code:02x}" in str(error)


def test_refused_credentials_of_nobody_name_an_anonymous_client() -> None:
    assert "an anonymous client" in str(connect_refused(0x87, username=None))


def test_a_refused_user_name_without_a_password_is_not_shown_whole_for_it_may_be_a_token() -> None:
    error = connect_refused(0x87, username="tok3n-of-mine", has_password=False)
    assert "refused user 'tok3...' without a password" in str(error)
    assert "if it is a token" in str(error.hint)


@pytest.mark.parametrize("code", [0x80, 0x83, 0x88, 0x89, 0x8B, 0x97, 0x9F])
def test_a_broker_that_is_busy_or_going_down_is_tried_again(code: int) -> None:
    assert isinstance(connect_refused(code), BrokerUnreachableError)


@pytest.mark.parametrize("code", [0x81, 0x84, 0x85, 0x8A, 0x8C, 0x95, 0x9C, 0x9D])
def test_a_disagreement_on_the_protocol_is_final(code: int) -> None:
    assert isinstance(connect_refused(code), ProtocolRefusedError)


@pytest.mark.parametrize(
    ("exc", "reason"),
    [
        (socket.gaierror(-2, "Name or service not known"), "unknown host name"),
        (UnicodeError("label too long"), "unknown host name"),
        (ConnectionRefusedError(), "nothing listens there"),
        (TimeoutError(), "no answer to the attempt to connect"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "cannot connect: Network is unreachable"),
        (OSError(), "cannot connect: OSError"),
    ],
)
def test_a_system_error_is_said_in_plain_words_and_can_heal(exc: Exception, reason: str) -> None:
    error = connect_failed(exc)
    assert str(error) == f"h:1883: {reason}"
    assert error.retryable
    assert error.hint


def test_a_certificate_that_was_not_accepted_is_final_and_says_why() -> None:
    exc = ssl.SSLCertVerificationError()
    exc.verify_message = "certificate has expired"
    error = connect_failed(exc, is_tls=True)
    assert isinstance(error, ProtocolRefusedError)
    assert str(error).endswith("certificate has expired")


@pytest.mark.parametrize("exc", [ssl.SSLEOFError(), ConnectionResetError()])
def test_a_handshake_that_was_cut_off_can_heal(exc: Exception) -> None:
    error = connect_failed(exc, is_tls=True)
    assert error.retryable
    assert str(error) == "h:1883: the TLS handshake failed: the other side closed the connection"


def test_a_port_that_answers_no_tls_is_final() -> None:
    exc = ssl.SSLError()
    exc.reason = "WRONG_VERSION_NUMBER"
    error = connect_failed(exc, is_tls=True)
    assert isinstance(error, ProtocolRefusedError)
    assert "wrong version number" in str(error)
    assert "1883" in str(error.hint)


@pytest.mark.parametrize(("is_tls", "expected"), [(True, "TLSOptions(certfile=..."), (False, "tls=TLSOptions()")])
def test_a_silent_end_before_connack_hints_at_tls(is_tls: bool, expected: str) -> None:
    assert expected in str(unconnected.closed_before_connack("h:1883", is_tls=is_tls).hint)


def test_silence_on_a_plain_port_hints_at_tls() -> None:
    assert "tls=TLSOptions()" in str(unconnected.no_answer("h:8883", seconds=8, is_tls=False).hint)
    assert "tls=TLSOptions()" not in str(unconnected.no_answer("h:8883", seconds=8, is_tls=True).hint)


@pytest.mark.parametrize("code", [0x87, 0x88, 0x9C])
def test_what_a_broker_says_of_a_refused_connection_is_handed_on(code: int) -> None:
    words = Words("out of \x1b[1morder", "b.example:1883")
    error = unconnected.connect_refused(code, "Some name", endpoint="h:1883", username="alice", words=words)
    assert r"Some name): 'out of \x1b[1morder'; the server to use is 'b.example:1883'" in str(error)
    assert (error.reason_string, error.server_reference) == (words.reason, words.server)


@pytest.mark.parametrize(("code", "how_long"), [(0x9C, "for now"), (0x9D, "for good")])
def test_a_broker_that_sends_us_elsewhere_says_where_and_for_how_long(code: int, how_long: str) -> None:
    words = Words(server="b.example:1883")
    refused = unconnected.connect_refused(code, "Moved", endpoint="h:1883", username=None, words=words)
    ended = failures.disconnected(code, "Moved", endpoint="h:1883", by_broker=True, words=words)
    for error in (refused, ended):
        assert str(error).endswith("the server to use is 'b.example:1883'")
        assert how_long in str(error.hint)
    nowhere = unconnected.connect_refused(code, "Moved", endpoint="h:1883", username=None)
    assert "whoever runs the broker" in str(nowhere.hint)


@pytest.mark.parametrize(
    ("code", "cure"),
    [(0x85, "client_id=ID"), (0x8A, "banned"), (0x8C, "another kind"), (0x97, "limit"), (0x9F, "later")],
)
def test_a_refusal_about_which_somebody_can_do_something_says_what(code: int, cure: str) -> None:
    assert cure in str(connect_refused(code).hint)
