"""What a check makes of a snapshot."""

from dataclasses import replace

import pytest

from plantops_cli.errors import ConfigError
from plantops_cli.fleet.device import DeviceState
from plantops_cli.fleet.rhythm import Rhythm
from plantops_cli.fleet.verdict import CheckStatus, Thresholds, judge
from tests.support.fleet_reports import FINE, device, look_at


def test_all_well_is_ok() -> None:
    verdict = judge(look_at(FINE), Thresholds())
    assert (verdict.status, verdict.reasons) == (CheckStatus.OK, ())


@pytest.mark.parametrize("state", [DeviceState.LATE, DeviceState.MUTE, DeviceState.NO_HEARTBEAT])
def test_ailing_devices_are_a_warning_from_their_number_on(state: DeviceState) -> None:
    snapshot = look_at(FINE, device(state, "x"), device(state, "y"))
    assert judge(snapshot, Thresholds(warn_late=3)).status is CheckStatus.OK
    verdict = judge(snapshot, Thresholds(warn_late=2))
    assert verdict.status is CheckStatus.WARNING
    assert verdict.reasons == (f"2 late, mute or without heartbeat: x ({state.words}), y ({state.words})",)


def test_devices_that_are_gone_are_critical_from_their_number_on() -> None:
    gone = device(DeviceState.OFFLINE, "x"), device(DeviceState.NEVER_SEEN, "y", is_expected=True, messages=0)
    snapshot = look_at(FINE, *gone)
    assert judge(snapshot, Thresholds(crit_offline=3)).status is CheckStatus.OK
    verdict = judge(snapshot, Thresholds(crit_offline=2))
    assert verdict.status is CheckStatus.CRITICAL
    assert verdict.reasons == ("2 offline or missing: x (offline), y (never seen)",)


def test_who_is_known_from_a_retained_message_only_is_not_missed() -> None:
    retained = device(DeviceState.NEVER_SEEN, "y", is_retained_only=True, messages=0)
    assert judge(look_at(FINE, retained), Thresholds()).status is CheckStatus.OK


def test_critical_outranks_warning_and_both_are_said() -> None:
    verdict = judge(look_at(FINE, device(DeviceState.OFFLINE), device(DeviceState.LATE, "y")), Thresholds())
    assert verdict.status is CheckStatus.CRITICAL
    assert [reason.split(":")[0] for reason in verdict.reasons] == [
        "1 offline or missing",
        "1 late, mute or without heartbeat",
    ]


def test_too_low_a_rate_is_critical() -> None:
    assert judge(look_at(FINE), Thresholds(min_rate=1.0)).status is CheckStatus.OK
    assert judge(look_at(FINE), Thresholds(min_rate=1.1)).reasons == ("1 messages/s, fewer than 1.1",)


def test_a_rate_that_nobody_knows_is_not_enough() -> None:
    snapshot = replace(look_at(FINE), listened_seconds=0.4)
    assert judge(snapshot, Thresholds()).status is CheckStatus.OK
    [reason] = judge(snapshot, Thresholds(min_rate=0.1)).reasons
    assert reason == "listened for 0.4 s, too short a time for a rate"
    assert "rate" not in {figure.name for figure in judge(snapshot, Thresholds()).figures}


def test_retained_messages_make_no_rate() -> None:
    snapshot = replace(look_at(FINE), old_messages=60)
    assert judge(snapshot, Thresholds(min_rate=0.1)).status is CheckStatus.CRITICAL


def test_of_whom_nothing_can_be_said_is_noted_and_makes_nothing_worse() -> None:
    quiet = device(DeviceState.ONLINE, "q", interval_seconds=None, telemetry_rhythm=Rhythm.QUIET)
    verdict = judge(look_at(FINE, quiet), Thresholds())
    assert verdict.status is CheckStatus.OK
    assert verdict.notes == ("1 quiet before the rhythm was known: q",)
    figures = {figure.name: figure.value for figure in verdict.figures}
    assert (figures["quiet"], figures["rhythm_unknown"], figures["retained_only"]) == (1, 1, 0)


def test_too_many_invalid_payloads_are_critical_with_the_first_error() -> None:
    snapshot = look_at(device(DeviceState.ONLINE, invalid=3, error="soil: missing"))
    assert judge(snapshot, Thresholds()).status is CheckStatus.OK
    assert judge(snapshot, Thresholds(max_invalid=3)).status is CheckStatus.OK
    verdict = judge(snapshot, Thresholds(max_invalid=2))
    assert verdict.reasons == ("3 invalid payloads: x (3: soil: missing)",)


def test_silence_is_critical() -> None:
    assert judge(look_at(messages=0), Thresholds()).reasons == ("no message of any device in 60 s",)


def test_no_more_than_five_names_are_said() -> None:
    verdict = judge(look_at(*(device(DeviceState.OFFLINE, f"x{n}") for n in range(9))), Thresholds())
    assert verdict.reasons[0].endswith("x4 (offline) and 4 more")


def test_names_that_differ_are_told_apart() -> None:
    names = ("a\u200b", "a\\u200b", "a ")
    retained = (device(DeviceState.NEVER_SEEN, name, messages=0, is_retained_only=True) for name in names)
    gone = (device(DeviceState.OFFLINE, name) for name in names)
    shown = (r"a\x20", r"a\\u200b", r"a\u200b")
    verdict = judge(look_at(*retained, *gone), Thresholds())
    assert verdict.reasons == (f"3 offline or missing: {', '.join(f'{name} (offline)' for name in shown)}",)
    assert verdict.notes == (f"3 retained only: {', '.join(shown)}",)


def test_figures_carry_the_thresholds() -> None:
    verdict = judge(look_at(FINE), Thresholds(warn_late=2, crit_offline=3, min_rate=0.5, max_invalid=4))
    figures = {figure.name: (figure.value, figure.warning, figure.critical) for figure in verdict.figures}
    assert figures["ailing"] == (0, "1", "")
    assert figures["gone"] == (0, "", "2")
    assert figures["rate"] == (1.0, "", "0.5:")
    assert figures["invalid"] == (0, "", "4")
    assert {state.value for state in DeviceState} <= set(figures)


@pytest.mark.parametrize(
    "wrong",
    [{"warn_late": 0}, {"crit_offline": 0}, {"min_rate": 0.0}, {"min_rate": float("nan")}, {"max_invalid": -1}],
)
def test_a_threshold_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Thresholds(**wrong)  # type: ignore[arg-type]  # each fits its own field
