import re

import pytest

from plantops_cli.errors import (
    ConnectionLostError,
    HeldUpError,
    SessionTakenOverError,
    SubscriptionRefusedError,
)
from plantops_cli.stream import failures
from plantops_cli.stream.packets import MalformedPacketError
from plantops_cli.stream.words import Answer, Words


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
    assert str(error) == (
        "h:1883: the broker refused to subscribe "
        "'a/#' (SUBACK 0x80, Unspecified error), 'b' (SUBACK 0x87, Not authorized)"
    )
    assert not error.retryable


@pytest.mark.parametrize(
    ("code", "name", "cure"),
    [
        (0x80, "Unspecified error", "says no more than that"),
        (0x83, "Implementation specific error", "rule of its own"),
        (0x8F, "Topic filter invalid", "a filter of this form"),
        (0x91, "Packet identifier in use", "try again"),
        (0x97, "Quota exceeded", "fewer filters"),
        (0x9E, "Shared subscription not supported", "leave group= away"),
        (0xA1, "Subscription identifiers not supported", "subscribe without one"),
        (0xA2, "Wildcard subscription not supported", "name each topic in full"),
        (0xC0, "unknown", "says no more than that"),
    ],
)
def test_a_refusal_that_is_no_question_of_rights_has_a_cure_of_its_own(code: int, name: str, cure: str) -> None:
    error = failures.filters_refused({"a": code}, endpoint="h:1883")
    assert f"'a' (SUBACK 0x{code:02x}, {name})" in str(error)
    assert cure in str(error.hint)
    assert "right" not in str(error.hint)


@pytest.mark.parametrize(("code", "is_v5"), [(0x87, True), (0x87, False), (0x80, False)])
def test_a_refusal_for_a_missing_right_says_so(code: int, is_v5: bool) -> None:
    error = failures.filters_refused({"a": code}, endpoint="h:1883", is_v5=is_v5)
    assert "the right to subscribe" in str(error.hint)


def test_refusals_for_several_reasons_have_a_cure_for_each() -> None:
    error = failures.filters_refused({"a": 0x87, "b": 0x87, "c/#": 0xA2}, endpoint="h:1883")
    assert str(error.hint).count("the right to subscribe") == 1
    assert str(error.hint).count("name each topic in full") == 1


def test_what_was_said_of_all_refused_filters_is_said_once() -> None:
    said = Answer(0x87, Words("not for you"))
    error = failures.filters_refused({"a": said, "b": said}, endpoint="h:1883")
    assert str(error).endswith("'b' (SUBACK 0x87, Not authorized): 'not for you'")
    assert error.reason_string == "not for you"
    assert error.filters == {"a": 0x87, "b": 0x87}


def test_what_was_said_of_some_refused_filters_stands_behind_each() -> None:
    refused = {"a": 0x80, "b": Answer(0x97, Words("eight at most"))}
    error = failures.filters_refused(refused, endpoint="h:1883")
    assert "'a' (SUBACK 0x80, Unspecified error), 'b' (SUBACK 0x97, Quota exceeded): 'eight at" in str(error)
    assert error.reason_string == "eight at most"


def test_a_filter_that_is_not_even_asked_for_has_the_code_and_the_cure_of_its_refusal() -> None:
    error = failures.filters_unavailable({"a/+": 0xA2, "$share/g/a": 0x9E, "long": 0x95}, endpoint="h:1883")
    assert "has said that it does not take 'a/+' (0xa2, Wildcard subscription not supported)" in str(error)
    assert error.filters == {"a/+": 0xA2, "$share/g/a": 0x9E, "long": 0x95}
    assert "leave group= away" in str(error.hint)


def test_what_a_broker_says_at_the_end_is_handed_on() -> None:
    error = failures.disconnected(
        0x8B, "Server shutting down", endpoint="h:1883", by_broker=True, words=Words("back at noon")
    )
    assert str(error) == "h:1883: connection lost: the broker said 0x8b, Server shutting down: 'back at noon'"
    assert error.reason_string == "back at noon"
    taken = failures.disconnected(
        0x8E, "Session taken over", endpoint="h:1883", by_broker=True, words=Words("by b")
    )
    assert taken.reason_string == "by b"


@pytest.mark.parametrize("code", [0x8F, 0x9E, 0xA1, 0xA2])
def test_an_end_over_what_was_subscribed_is_a_refusal_of_it(code: int) -> None:
    error = failures.disconnected(code, "Name", endpoint="h:1883", by_broker=True, filters=["a", "b"])
    assert isinstance(error, SubscriptionRefusedError)
    assert error.filters == {"a": code, "b": code}
    assert error.hint
    nothing_asked = failures.disconnected(code, "Name", endpoint="h:1883", by_broker=True)
    assert isinstance(nothing_asked, ConnectionLostError)


def test_what_a_broker_says_of_a_refused_message_is_handed_on() -> None:
    error = failures.publish_refused(Answer(0x97, Words("one a minute")), "a", endpoint="h:1883")
    assert str(error).endswith("the broker refused it (0x97, quota exceeded): 'one a minute'")
    assert (error.reason_code, error.reason_string) == (0x97, "one a minute")


def test_a_group_on_a_broker_without_mqtt_5_is_refused_with_the_way_to_insist() -> None:
    error = failures.sharing_unknown(["$share/g/a"], endpoint="h:1883")
    assert "MQTT 3.1.1 has no shared subscriptions" in str(error)
    assert error.filters == {"$share/g/a": 0x9E}
    assert "group_anyway=True" in str(error.hint)
    assert "mqtt_version" not in str(error.hint)


def test_a_group_on_a_broker_that_may_be_merely_slow_is_not_said_to_lack_mqtt_5() -> None:
    error = failures.sharing_unknown(["$share/g/a"], endpoint="h:1883", silent_seconds=10.0)
    assert "did not answer MQTT 5 within 10 s" in str(error)
    assert "merely slow, set mqtt_version='5'" in str(error.hint)


def test_what_a_broker_says_of_a_taken_client_id_is_handed_on() -> None:
    said = Words("from 10.0.0.7")
    error = failures.disconnected(0x8E, "Name", endpoint="h:1883", by_broker=True, words=said)
    assert isinstance(error, SessionTakenOverError)
    assert str(error).endswith("with the same client id: 'from 10.0.0.7'")
    assert error.reason_string == "from 10.0.0.7"


def test_bytes_that_are_no_mqtt_are_told_to_both_sides() -> None:
    code, error = failures.tripped_over(MalformedPacketError("too long"), endpoint="h:1883")
    assert code == 0x81
    assert "(too long)" in str(error)
    assert "(KeyError)" in str(failures.tripped_over(KeyError("x"), endpoint="h:1883")[1])


def test_an_answer_that_is_held_up_says_how_much_may_wait() -> None:
    error = failures.held_up(HeldUpError, "h:1883", max_pending_bytes=1_024)
    assert "1,024 bytes of them" in str(error)
    assert "max_pending_bytes" in str(error.hint)


def test_a_broker_that_takes_nothing_may_take_something_on_another_connection() -> None:
    error = failures.way_back_clogged("h:1883")
    assert "takes no acknowledgements" in str(error)
    assert error.retryable
