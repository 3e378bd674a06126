import errno
import re
import socket
import ssl

import pytest

from plantops_cli.errors import (
    BrokerError,
    BrokerUnreachableError,
    ConnectionLostError,
    CredentialsRefusedError,
    ProtocolRefusedError,
    SessionTakenOverError,
)
from plantops_cli.stream import failures


def connect_failed(exc: Exception, *, is_tls: bool = False) -> BrokerError:
    return failures.connect_failed(exc, endpoint="h:1883", is_tls=is_tls)


def connack_refused(code: int, *, username: str | None = "alice", has_password: bool = True) -> BrokerError:
    return failures.connack_refused(
        code, "Some name", endpoint="h:1883", username=username, has_password=has_password
    )


@pytest.mark.parametrize("code", [0x86, 0x87])
def test_refused_credentials_name_the_user_and_are_final(code: int) -> None:
    error = connack_refused(code)
    assert isinstance(error, CredentialsRefusedError)
    assert not error.retryable
    assert "'alice'" in str(error)
    assert f"0x{code:02x}" in str(error)


def test_refused_credentials_of_nobody_name_an_anonymous_client() -> None:
    assert "an anonymous client" in str(connack_refused(0x87, username=None))


def test_a_refused_user_name_without_a_password_is_not_shown_whole_for_it_may_be_a_token() -> None:
    error = connack_refused(0x87, username="tok3n-of-mine", has_password=False)
    assert "refused user 'tok3...' without a password" in str(error)
    assert "if it is a token" in str(error.hint)


def test_a_refused_message_has_its_topic_the_code_and_for_rights_a_cure() -> None:
    denied = failures.publish_refused(0x87, "devices/a\x1b/set", endpoint="h:1883")
    assert str(denied) == (
        r"h:1883: nothing published on 'devices/a\x1b/set': the broker refused it (0x87, not authorized)"
    )
    assert (denied.reason_code, denied.endpoint) == (0x87, "h:1883")
    assert "right to publish" in (denied.hint or "")
    unknown = failures.publish_refused(0xC0, "x" * 1_000, endpoint="h:1883")
    assert "(0xc0, unknown)" in str(unknown)
    assert len(str(unknown)) < 200
    assert unknown.hint is None


@pytest.mark.parametrize(("qos", "said"), [(1, "sent|hang up"), (2, "twice")])
def test_a_message_that_was_lost_says_whether_it_may_have_come(qos: int, said: str) -> None:
    error = failures.lost_unacknowledged("a", endpoint="h:1883", qos=qos)
    assert isinstance(error, ConnectionLostError)
    assert re.search(said, error.hint or "")


@pytest.mark.parametrize("code", [0x80, 0x83, 0x88, 0x89, 0x8B, 0x97, 0x9F])
def test_a_broker_that_is_busy_or_going_down_is_tried_again(code: int) -> None:
    assert isinstance(connack_refused(code), BrokerUnreachableError)


@pytest.mark.parametrize("code", [0x81, 0x84, 0x85, 0x8A, 0x8C, 0x95, 0x9C, 0x9D])
def test_a_disagreement_on_the_protocol_is_final(code: int) -> None:
    assert isinstance(connack_refused(code), ProtocolRefusedError)


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
    assert expected in str(failures.closed_before_connack("h:1883", is_tls=is_tls).hint)


def test_silence_on_a_plain_port_hints_at_tls() -> None:
    assert "tls=TLSOptions()" in str(failures.no_answer("h:8883", seconds=8, is_tls=False).hint)
    assert "tls=TLSOptions()" not in str(failures.no_answer("h:8883", seconds=8, is_tls=True).hint)


@pytest.mark.parametrize("code", [0x00, 0x8B, 0x8D, 0x89, 0x97, 0x9D])
def test_the_reason_of_a_disconnect_is_named_and_the_connection_made_again(code: int) -> None:
    error = failures.disconnected(code, "Server shutting down", endpoint="h:1883", by_broker=True)
    assert isinstance(error, ConnectionLostError)
    assert f"0x{code:02x}, Server shutting down" in str(error)


def test_a_session_taken_over_is_final() -> None:
    error = failures.disconnected(0x8E, "Session taken over", endpoint="h:1883", by_broker=True)
    assert isinstance(error, SessionTakenOverError)
    assert "client_id=ID" in str(error.hint)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Keep alive timeout", "no answer to keep-alive pings"),
        ("Protocol error", "the broker sent a malformed packet"),
        ("Unspecified error", "the network connection ended"),
    ],
)
def test_an_end_without_disconnect_is_said_in_plain_words(name: str, reason: str) -> None:
    error = failures.disconnected(0x80, name, endpoint="h:1883", by_broker=False)
    assert str(error) == f"h:1883: connection lost: {reason}"


def test_refused_filters_are_named_with_their_codes() -> None:
    error = failures.filters_refused({"a/#": 0x80, "b": 0x87}, endpoint="h:1883")
    assert str(error) == "h:1883: the broker refused to subscribe 'a/#' (SUBACK 0x80), 'b' (SUBACK 0x87)"
    assert not error.retryable


def test_a_broker_that_takes_nothing_may_take_something_on_another_connection() -> None:
    error = failures.way_back_clogged("h:1883")
    assert "takes no acknowledgements" in str(error)
    assert error.retryable
