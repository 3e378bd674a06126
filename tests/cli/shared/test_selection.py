"""What is subscribed to, and what is left out of what comes."""

import pytest

from plantops_cli.cli.shared.selection import Selection
from plantops_cli.errors import ConfigError, PlantopsError, TopicError
from plantops_cli.messages import Message
from tests.support import samples


def message(topic: str, *, retain: bool = False) -> Message:
    return samples.message(topic=topic, retain=retain)


@pytest.mark.parametrize(
    ("selection", "filters"),
    [
        (Selection(), ("devices/+/telemetry", "devices/+/heartbeat")),
        (Selection(kind="heartbeat"), ("devices/+/heartbeat",)),
        (
            Selection(devices=["b", "a", "b"]),
            ("devices/b/telemetry", "devices/b/heartbeat", "devices/a/telemetry", "devices/a/heartbeat"),
        ),
        (Selection(devices=["a"], kind="telemetry"), ("devices/a/telemetry",)),
        (Selection(filters=["x/#", "y", "x/#"], devices=["a"]), ("x/#", "y")),
    ],
)
def test_nothing_more_is_subscribed_to_than_is_wanted(selection: Selection, filters: tuple[str, ...]) -> None:
    assert selection.topic_filters == filters


@pytest.mark.parametrize(
    ("selection", "is_retained_wanted", "is_live_wanted"),
    [
        (Selection(), True, True),
        (Selection(is_retained_wanted=False), False, True),
        (Selection(is_live_wanted=False), True, False),
    ],
)
def test_retained_and_live_messages_can_be_told_apart(
    selection: Selection, *, is_retained_wanted: bool, is_live_wanted: bool
) -> None:
    topic = "devices/a/telemetry"
    assert selection.wants(message(topic, retain=True)) == is_retained_wanted
    assert selection.wants(message(topic)) == is_live_wanted


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (Selection(filters=["#"]), {"devices/a/telemetry", "devices/b/heartbeat", "x"}),
        (Selection(filters=["#"], devices=["a"]), {"devices/a/telemetry"}),
        (Selection(filters=["#"], kind="heartbeat"), {"devices/b/heartbeat"}),
        (Selection(filters=["#"], filter_out=["devices/+/telemetry", "x/#"]), {"devices/b/heartbeat"}),
    ],
)
def test_a_message_must_pass_every_condition(selection: Selection, wanted: set[str]) -> None:
    topics = {"devices/a/telemetry", "devices/b/heartbeat", "x"}
    assert {topic for topic in topics if selection.wants(message(topic))} == wanted


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"filters": ["a/#/b"]}, TopicError, "a/#/b"),
        ({"filter_out": ["a+"]}, TopicError, r"a\+"),
        ({"devices": ["a/b"]}, ConfigError, "--device 'a/b': a device id is one topic level"),
        ({"devices": ["+"]}, ConfigError, "--device: device id '[+]' contains the wildcard"),
        ({"devices": [""]}, ConfigError, "an empty device id"),
        ({"is_retained_wanted": False, "is_live_wanted": False}, ConfigError, "leave nothing"),
    ],
)
def test_a_selection_that_cannot_be_is_refused(
    wrong: dict[str, list[str]], error: type[PlantopsError], words: str
) -> None:
    with pytest.raises(error, match=words):
        Selection(**wrong)  # type: ignore[arg-type]  # each dictionary fits its own case
