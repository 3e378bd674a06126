"""What a broker in memory knows of its client, and what it refuses."""

from plantops_cli.stream.publishing import PublishRequest
from plantops_cli.testing.memory_session import MemorySession


def request(topic: str) -> PublishRequest:
    return PublishRequest.of(topic, b"7", qos=1, retain=False, properties=None)


def test_each_filter_is_granted_what_is_asked_for_unless_it_is_refused() -> None:
    session = MemorySession()
    session.refused_filters["secret/#"] = 0x87
    assert session.take_subscribe({"a/+": 1, "secret/#": 2, "b": 0}) == [1, 0x87, 0]
    assert session.subscriptions == {"a/+": 1, "b": 0}


def test_a_topic_has_the_highest_qos_of_all_that_match_it() -> None:
    session = MemorySession()
    session.take_subscribe({"a/+": 0, "a/#": 2, "$share/group/a/b": 1})
    assert (session.granted("a/b"), session.granted("b"), session.granted("a")) == (2, None, 2)


def test_what_is_refused_was_not_published() -> None:
    session = MemorySession()
    session.refused_topics["secret/#"] = 0x87
    assert [session.take_publish(request(topic)) for topic in ("secret/a", "a")] == [0x87, 0]
    assert [message.topic for message in session.published] == ["a"]


def test_an_acknowledgement_of_nothing_changes_nothing() -> None:
    session = MemorySession()
    session.take_acknowledgement(7, is_pubrec=False)
    session.take_pubcomp(7)
    assert session.acknowledged == []
