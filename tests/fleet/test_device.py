"""What is known of one device."""

import tracemalloc

import pytest

from plantops_cli.fleet.device import TELEMETRY as TELEMETRY_NAME
from plantops_cli.fleet.device import WINDOW_SECONDS, Device, DeviceReport, DeviceState
from plantops_cli.fleet.presence import Presence
from plantops_cli.fleet.rhythm import FINE, OVERDUE, Signal
from plantops_cli.fleet.sequence import DeviceClock, SequenceNumbers
from tests.support.device_story import HEARTBEAT, START, TELEMETRY, Story, beating


def heard(*moments: float) -> Device:
    device = Device(b"a", is_expected=True)
    device.telemetry = Signal()
    device.first_at, device.count = moments[0], len(moments)
    for at in moments:
        device.telemetry.hear(at, at)
    return device


def report(device: Device, *, has_roster: bool = True) -> DeviceReport:
    return device.report(START, window_end=START, has_roster=has_roster)


def test_one_that_is_expected_is_never_seen_and_any_other_unheard_of() -> None:
    assert Device(b"a", is_expected=True).state is DeviceState.NEVER_SEEN
    assert Device(b"a", is_expected=False).state is None


@pytest.mark.parametrize("state", DeviceState)
def test_a_state_has_words_without_underscores(state: DeviceState) -> None:
    assert state.words == state.value.replace("_", " ")


def test_an_id_that_is_no_utf_8_has_a_name_all_the_same() -> None:
    assert Device(b"plant-\xff", is_expected=False).name == "plant-\ufffd"


def test_what_no_message_told_is_none_and_not_zero() -> None:
    plain = report(heard(START), has_roster=False)
    assert (plain.is_expected, plain.missing, plain.duplicates, plain.restarts) == (None, None, None, None)
    numbered = heard(START)
    assert numbered.telemetry is not None
    numbered.telemetry.sequence = SequenceNumbers()
    told = report(numbered)
    assert (told.is_expected, told.missing, told.duplicates, told.restarts) == (True, 0, 0, 0)
    assert told.lag_seconds is None


def test_timestamps_alone_tell_the_order_and_no_numbers() -> None:
    stamped = heard(START)
    assert stamped.telemetry is not None
    stamped.telemetry.clock = DeviceClock()
    told = report(stamped)
    assert (told.out_of_order, told.duplicates, told.missing, told.restarts) == (0, 0, None, None)


def test_in_its_first_minute_the_rate_is_that_since_it_was_heard_first() -> None:
    assert heard(*(START + 2 * n for n in range(11))).rate(START + 20, START) == 0.5


def test_before_ten_seconds_are_over_there_is_no_rate() -> None:
    burst = heard(*(START + n / 200 for n in range(6)))
    assert burst.rate(START + 0.03, START) is None
    assert burst.rate(START + 9.9, START) is None
    assert burst.rate(START + 10, START) == 0.5
    assert Device(b"a", is_expected=True).rate(START, START) is None


def test_what_keeps_a_state_from_telling_everything_is_remarked() -> None:
    remarks = report(heard(START, START + 1)).remarks
    assert remarks == ("telemetry rhythm not known yet", "heartbeat not heard yet")
    assert report(Device(b"a", is_expected=True)).remarks == ()
    retained = Device(b"a", is_expected=False)
    retained.is_retained = True
    assert report(retained).remarks == ("retained only",)


def test_the_silence_of_each_topic_is_told_by_itself() -> None:
    device = heard(START - 30)
    device.heartbeat = Signal()
    device.heartbeat.hear(START - 5, START - 5)
    told = report(device)
    assert (told.telemetry_silent_seconds, told.heartbeat_silent_seconds) == (30, 5)
    assert [device.silent_seconds(topic, START) for topic in (TELEMETRY_NAME, None)] == [30, 5]
    assert heard(START - 30).silent_seconds("heartbeat", START) == 30
    assert report(heard(START)).heartbeat_silent_seconds is None


def test_a_topic_is_quiet_from_one_moment_on() -> None:
    assert heard(START, START + 10).quiet_since(START + 50) == "telemetry"
    assert heard(START, START + 10).quiet_since(START + 51) is None


def test_a_device_is_judged_once_the_rhythm_of_a_topic_is_known() -> None:
    assert not report(heard(START, START + 10, START + 20)).is_judged
    assert report(heard(START, START + 10, START + 20, START + 30)).is_judged


def test_of_one_that_comes_back_a_topic_of_unknown_rhythm_is_not_waited_for() -> None:
    device = heard(START, START + 10)
    device.welcome_back(START + 10)
    assert device.telemetry is not None
    assert device.telemetry.held == FINE


def test_later_the_rate_takes_of_the_window_before_what_still_lies_in_the_minute() -> None:
    device = heard(START, START + 1)
    device.window_before, device.window_count = 60, 15
    half = START + 2.5 * WINDOW_SECONDS
    assert device.rate(half, half + WINDOW_SECONDS / 2) == pytest.approx((15 + 30) / WINDOW_SECONDS)


@pytest.mark.parametrize("interval", [40.0, 140.0])
def test_one_that_speaks_a_few_times_a_minute_or_less_has_the_rate_of_its_rhythm(interval: float) -> None:
    story = beating(TELEMETRY, HEARTBEAT, interval=interval)
    for part in (0, 0.1, 0.5, 0.9, 3.9):
        assert story.report(START + part * interval).rate == pytest.approx(2 / interval)
    assert story.report(START + 4 * interval).rate == 0


def test_one_of_unknown_rhythm_has_the_rate_since_it_was_heard_first_and_one_heard_once_has_none() -> None:
    assert heard(START, START + 50, START + 100).rate(START + 200, START + 60) == 2 / 200
    assert heard(START).rate(START + 200, START + 60) is None


def test_time_in_which_we_did_not_listen_is_moved_over() -> None:
    device = heard(START)
    device.due_at = START + 100
    device.miss(START + 10, START + 60)
    assert (device.first_at, device.due_at, device.heard_at) == (START + 50, START + 150, START + 50)


def test_one_that_is_welcomed_back_is_late_until_it_is_regular() -> None:
    device = heard(START, START + 10, START + 20, START + 30)
    device.welcome_back(START + 500)
    assert device.telemetry is not None
    assert device.telemetry.held == OVERDUE
    assert device.telemetry.overdue_at(None) == START + 520


def test_invalid_telemetry_is_counted_and_the_first_error_kept() -> None:
    story = Story()
    story.hear(TELEMETRY, START, payload=b"nonsense")
    story.hear(TELEMETRY, START + 1, payload=b"")
    story.hear(HEARTBEAT, START + 2, payload=b"I am alive")
    report = story.report(START + 2)
    assert report.invalid == story.presence.invalid_count == 2
    assert report.error is not None
    assert report.error.startswith("not JSON: ")


def test_telemetry_that_listeners_get_as_a_string_is_invalid_here_too() -> None:
    story = Story()
    story.hear(TELEMETRY, START, payload=b"[" * 250 + b"]" * 250)
    story.hear(TELEMETRY, START + 1, payload=b"[" * 251 + b"]" * 251)
    assert story.report(START + 1).invalid == 1


def test_a_contract_decides_what_is_invalid() -> None:
    story = Story(Presence(contract=lambda payload: None if payload == b"{}" else "no"))
    story.hear(TELEMETRY, START, payload=b"{}")
    story.hear(TELEMETRY, START, payload=b"[1]")
    assert (story.report(START).invalid, story.report(START).error) == (1, "no")


def test_of_what_a_contract_says_no_more_is_kept_than_anybody_reads() -> None:
    story = Story(Presence(contract=lambda payload: f"{payload.decode()}: unknown field"))
    story.hear(TELEMETRY, START, payload=b"x" * 100_000)
    assert story.report(START).error == "x" * 200


def test_messages_and_bytes_are_counted() -> None:
    story = Story()
    story.hear(TELEMETRY, START, payload=b"12345")
    story.hear(HEARTBEAT, START, payload=b"1")
    assert (story.report(START).messages, story.report(START).size_bytes) == (2, 6)


@pytest.mark.parametrize("seconds", [20, 100, 1_000])
def test_the_rate_is_that_of_the_last_minute(seconds: int) -> None:
    story = Story()
    story.hear(TELEMETRY, *(START + n / 2 for n in range(2 * seconds)))
    assert story.report(START + seconds).rate == pytest.approx(2.0, rel=0.05)
    later = story.report(START + seconds + 200).rate
    assert later is not None
    assert later < 0.25


def test_the_latest_numbers_of_a_field_are_kept() -> None:
    story = Story(Presence(field="soil.moisture"))
    for n in range(100):
        story.hear(TELEMETRY, START + n, payload=b'{"soil":{"moisture":%d}}' % n)
    story.hear(TELEMETRY, START + 100, payload=b'{"soil":{"moisture":"wet"}}')
    assert story.report(START + 100).values == tuple(range(68, 100))


def test_the_latest_payload_is_kept_on_request() -> None:
    for is_kept, expected in ((True, b'{"n":1}'), (False, None)):
        story = Story(Presence(is_payload_kept=is_kept))
        story.hear(TELEMETRY, START, payload=b'{"n":1}')
        story.hear(HEARTBEAT, START, payload=b"1")
        assert story.report(START).payload == expected


def test_sequence_numbers_are_followed_for_each_topic() -> None:
    story = Story(Presence(seq="seq"))
    for n in (1, 2, 5, 4, 4):
        story.hear(TELEMETRY, START + n, payload=b'{"seq":%d}' % n)
    story.hear(HEARTBEAT, START + 6, payload=b'{"seq":900}')
    report = story.report(START + 6)
    assert (report.missing, report.out_of_order, report.duplicates, report.restarts) == (1, 1, 1, 0)


def test_one_that_comes_twice_or_late_is_told_once_and_a_coarse_clock_makes_no_duplicates() -> None:
    story = Story(Presence(seq="seq", clock="at"))
    for number, second in ((1, 100), (2, 100), (3, 101), (3, 101), (5, 102), (4, 101)):
        story.hear(TELEMETRY, START, payload=b'{"seq":%d,"at":%d}' % (number, second))
        story.hear(HEARTBEAT, START, payload=b'{"at":%d}' % second)
    report = story.report(START)
    assert (report.duplicates, report.out_of_order) == (1 + 2, 1 + 1)


def test_numbers_and_timestamps_that_no_message_has_are_none_and_said() -> None:
    story = Story(Presence(seq="typo", clock="at", field="n"))
    story.hear(TELEMETRY, START, payload=b'{"seq":1,"at":true,"n":1}')
    report = story.report(START)
    assert (report.missing, report.missed, report.duplicates, report.restarts) == (None, None, None, None)
    assert story.presence.absent_fields == {"seq": "typo", "clock": "at"}


def test_one_device_with_a_number_proves_the_field_but_counts_for_no_other() -> None:
    story = Story(Presence(seq="seq"))
    story.hear(TELEMETRY, START, payload=b'{"seq":"0007"}')
    story.hear(b"devices/b/telemetry", START, payload=b"{}")
    assert (story.report(START).missing, story.report(START, "b").missing) == (0, None)
    assert story.presence.absent_fields == {}


def test_before_anything_was_heard_live_no_field_is_absent() -> None:
    presence = Presence(seq="seq", clock="at", field="n")
    presence.heard(TELEMETRY, b"{}", START, is_live=False)
    assert presence.absent_fields == {}


def test_what_was_skipped_during_our_outage_is_not_the_device_s_fault() -> None:
    story = Story(Presence(seq="seq"))
    story.hear(TELEMETRY, START, payload=b'{"seq":1}')
    story.presence.lost(START + 1)
    story.presence.resumed(START + 60)
    story.hear(TELEMETRY, START + 61, payload=b'{"seq":11}')
    story.hear(TELEMETRY, START + 62, payload=b'{"seq":13}')
    assert (story.report(START + 62).missing, story.report(START + 62).missed) == (1, 9)


def test_timestamps_tell_lag_jitter_and_skew() -> None:
    story = Story(Presence(clock="at", clock_offset_seconds=1_700_000_000))
    for at, stamp in ((0.0, -2.0), (1.0, 0.5), (2.0, 1.0)):
        story.hear(TELEMETRY, START + at, payload=b'{"at":%f}' % (1_700_000_000 + START + stamp))
    report = story.report(START + 2)
    assert report.lag_seconds == pytest.approx(1.0, abs=1e-3)
    assert report.skew_seconds == pytest.approx(0.5, abs=1e-3)
    assert report.jitter_seconds is not None
    assert 0 < report.jitter_seconds < 1.5


def test_a_device_takes_no_more_than_a_kilobyte() -> None:
    payload = b'{"soil_moisture":41.5}'
    topics = [f"devices/plant-{n:06}/{kind}".encode() for n in range(5_000) for kind in ("telemetry", "heartbeat")]
    tracemalloc.start()
    try:
        presence = Presence()
        at = START
        for _ in range(10):
            at += 10
            for topic in topics:
                at += 1e-5
                presence.heard(topic, payload, at)
            presence.changes(at)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / 5_000 <= 1_048
