"""The closing account of a stream."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from plantops_cli.cli.listen.summary import Summary
from plantops_cli.messages import Message
from plantops_cli.stream.status import Health, Outage, State
from tests.support.samples import batch_of, message

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MESSAGE = message(b"1", topic="devices/a/telemetry")
HEALTH = Health(
    state=State.DISCONNECTED,
    connected_since=None,
    connection_count=1,
    received=0,
    invalid=0,
    handler_errors=0,
    outage_count=0,
    outages=(),
    lost_sessions=0,
    paused_seconds=0.0,
    last_message_at=None,
)


def summary_of(messages: Sequence[Message], *, shown: int) -> Summary:
    summary = Summary()
    summary.count(batch_of(*messages))
    summary.shown = shown
    summary.invalid = sum(message.decode().error is not None for message in messages)
    return summary


def clock(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}"


def test_messages_are_counted_by_kind_and_mark() -> None:
    messages = [
        MESSAGE,
        replace(MESSAGE, retain=True),
        replace(MESSAGE, payload=b"", dup=True),
        replace(MESSAGE, topic="devices/a/heartbeat"),
        replace(MESSAGE, topic="elsewhere"),
    ]
    assert summary_of(messages, shown=5).lines(HEALTH, elapsed_seconds=61.26) == [
        "5 messages in 61.3 s (3 telemetry, 1 heartbeat, 1 other; 1 invalid, 1 retained, 1 duplicates)"
    ]


def test_what_was_left_out_shows_in_the_number_shown() -> None:
    [line] = summary_of([MESSAGE, MESSAGE], shown=1).lines(HEALTH, elapsed_seconds=1)
    assert line.endswith(", 1 shown")


def test_one_message_is_no_plural_and_thousands_are_grouped() -> None:
    assert summary_of([MESSAGE], shown=1).lines(HEALTH, elapsed_seconds=1)[0].startswith("1 message in ")
    many = summary_of([MESSAGE] * 1_000, shown=1_000)
    assert many.lines(HEALTH, elapsed_seconds=1)[0].startswith("1,000 messages in ")


def test_outages_are_named_with_their_windows() -> None:
    first = Outage(NOON, NOON + timedelta(seconds=2.5), "gone")
    last = Outage(NOON + timedelta(hours=1), None, "gone again")
    health = replace(HEALTH, outage_count=2, outages=(first, last))
    _, line = Summary().lines(health, elapsed_seconds=1)
    assert line == (
        f"2 outages, messages may be missing: {clock(NOON)} to {clock(NOON + timedelta(seconds=2.5))} (2.5 s), "
        f"{clock(NOON + timedelta(hours=1))} until the end"
    )


def test_outages_for_which_the_broker_kept_the_session_are_told_from_those_with_a_gap() -> None:
    bridged = Outage(NOON, NOON + timedelta(seconds=1), "gone", is_bridged=True)
    gap = replace(bridged, is_bridged=False)
    _, all_bridged = Summary().lines(replace(HEALTH, outage_count=1, outages=(bridged,)), elapsed_seconds=1)
    _, with_a_gap = Summary().lines(replace(HEALTH, outage_count=2, outages=(bridged, gap)), elapsed_seconds=1)
    assert all_bridged.startswith("1 outage, for which the broker kept the session: ")
    assert with_a_gap.startswith("2 outages, messages may be missing: ")


def test_a_session_that_the_broker_has_forgotten_is_mentioned() -> None:
    _, line = Summary().lines(replace(HEALTH, lost_sessions=1), elapsed_seconds=1)
    assert line == "1 session forgotten by the broker, messages are missing"


@pytest.mark.parametrize(
    ("seconds", "lines"),
    [(0.9, []), (1.0, ["reader slow: paused 1 s in all"]), (12.4, ["reader slow: paused 12 s in all"])],
)
def test_a_reader_that_held_the_stream_up_for_a_second_is_mentioned(seconds: float, lines: list[str]) -> None:
    assert Summary().lines(replace(HEALTH, paused_seconds=seconds), elapsed_seconds=1)[1:] == lines


def test_packets_without_a_valid_topic_are_mentioned() -> None:
    _, line = Summary().lines(replace(HEALTH, invalid=1), elapsed_seconds=1)
    assert line == "1 packet without a valid topic passed over"
