"""Packet identifiers of QoS 2: what is new, what is a repetition, and what a broker owes."""

import pytest

from plantops_cli.stream.exactly_once import UNRELEASED_FACTOR, ExactlyOnce, UnreleasedError
from plantops_cli.stream.packets import PUBREL, Packet


def test_an_identifier_brings_a_new_message_only_after_its_pubrel() -> None:
    once = ExactlyOnce(1_000)
    assert once.came(1, is_dup=False)
    assert not once.came(1, is_dup=False)
    once.handled(1, 10)
    assert not once.came(1, is_dup=False)
    assert once.is_handled(1)
    once.released(1)
    assert once.came(1, is_dup=False)
    assert not once.is_handled(1)


def test_on_a_new_connection_what_was_not_handled_comes_again_and_what_was_does_not() -> None:
    once = ExactlyOnce(1_000)
    assert once.came(1, is_dup=False)
    assert once.came(2, is_dup=False)
    once.handled(2, 10)
    once.begin()
    assert once.came(1, is_dup=True)
    assert not once.came(2, is_dup=True)


def test_a_broker_that_has_lost_an_identifier_in_a_crash_may_use_it_anew() -> None:
    once = ExactlyOnce(1_000)
    once.handled(1, 10)
    once.begin()
    assert once.came(1, is_dup=False)
    assert not once.is_handled(1)


def test_for_what_was_handled_on_an_earlier_connection_a_broker_owes_nothing() -> None:
    once = ExactlyOnce(20)
    once.handled(1, UNRELEASED_FACTOR * 20 + 1)
    once.begin()
    assert not once.is_to_be_asked()
    once.handled(2, 21)
    assert once.is_to_be_asked()
    once.released(2)
    once.handled(3, 21)
    once.answered()


def test_in_a_new_session_each_identifier_is_new() -> None:
    once = ExactlyOnce(5)
    once.handled(2, 10)
    once.begin()
    once.forget()
    assert once.came(2, is_dup=False)
    assert not once.is_to_be_asked()


def test_a_broker_is_asked_once_it_owes_more_than_may_wait() -> None:
    once = ExactlyOnce(20)
    once.handled(1, 20)
    assert not once.is_to_be_asked()
    once.handled(2, 1)
    assert once.is_to_be_asked()
    assert not once.is_to_be_asked()  # until it has answered
    once.released(1)
    once.released(2)
    once.handled(3, 21)  # after the ping
    once.answered()
    assert once.is_to_be_asked()
    with pytest.raises(UnreleasedError, match="1 messages of QoS 2 without their PUBREL"):
        once.answered()


def test_an_identifier_that_was_released_and_is_used_again_is_owed_only_since_then() -> None:
    once = ExactlyOnce(20)
    once.handled(1, 21)
    assert once.is_to_be_asked()
    once.released(1)
    once.handled(1, 21)
    once.answered()


def test_a_broker_that_owes_much_more_is_not_asked() -> None:
    once = ExactlyOnce(20)
    once.handled(1, UNRELEASED_FACTOR * 20 + 1)
    with pytest.raises(UnreleasedError):
        once.is_to_be_asked()


def test_an_answer_without_a_question_says_nothing() -> None:
    once = ExactlyOnce(20)
    once.handled(1, 50)
    once.answered()


PUBREL_7: Packet = (PUBREL, b"", 7, b"", b"")


def qos_2(mid: int, *, is_dup: bool = False) -> Packet:
    return 0x3C if is_dup else 0x34, b"a", mid, b"", b""


def test_messages_of_other_qos_pass_and_those_of_qos_2_once() -> None:
    others: list[Packet] = [(0x30, b"a", 0, b"", b""), (0x32, b"a", 7, b"", b"")]
    once = ExactlyOnce(1_000)
    assert once.sift([*others, qos_2(7), qos_2(7, is_dup=True)]) == ([*others, qos_2(7)], b"")


def test_what_was_handled_and_comes_again_is_answered_once_more() -> None:
    once = ExactlyOnce(1_000)
    once.sift([qos_2(7)])
    once.handled(7, 1)
    assert once.sift([qos_2(7, is_dup=True)]) == ([], b"\x50\x02\x00\x07")


def test_a_pubrel_is_answered_also_when_nothing_is_known_of_it() -> None:
    once = ExactlyOnce(1_000)
    assert once.sift([PUBREL_7]) == ([], b"\x70\x02\x00\x07")
    once.sift([qos_2(7)])
    once.handled(7, 1)
    assert once.sift([PUBREL_7, qos_2(7)]) == ([qos_2(7)], b"\x70\x02\x00\x07")
