"""What a look comes to, and what a check makes of it."""

from dataclasses import replace

import pytest

from plantops_cli.errors import ConfigError
from plantops_cli.fleet.device import DeviceReport, DeviceState
from plantops_cli.fleet.snapshot import Look
from plantops_cli.fleet.verdict import Status, Thresholds, judge

FINE = DeviceReport(
    device_id="a",
    state=DeviceState.ONLINE,
    last_telemetry=1.0,
    last_heartbeat=None,
    interval_seconds=10.0,
    heartbeat_interval_seconds=None,
    rate=0.1,
    messages=6,
    size_bytes=60,
    invalid=0,
    error=None,
    is_retained_only=False,
    is_expected=None,
    missing=None,
    missed=None,
    out_of_order=None,
    duplicates=None,
    restarts=None,
    lag_seconds=None,
    jitter_seconds=None,
    skew_seconds=None,
    payload=None,
    values=(),
)


def look_at(*reports: DeviceReport, messages: int = 60) -> Look:
    return Look(
        reports=reports,
        listened_seconds=60.0,
        messages=messages,
        passed_over=0,
        outages=0,
        clock_offset_seconds=1_763_928_902.0,
    )


def device(state: DeviceState, name: str = "x", **more: object) -> DeviceReport:
    return replace(FINE, device_id=name, state=state, **more)  # type: ignore[arg-type]  # each fits its own field


def test_all_well_is_ok() -> None:
    verdict = judge(look_at(FINE), Thresholds())
    assert (verdict.status, verdict.reasons) == (Status.OK, ())


@pytest.mark.parametrize("state", [DeviceState.LATE, DeviceState.MUTE, DeviceState.NO_HEARTBEAT])
def test_ailing_devices_are_a_warning_from_their_number_on(state: DeviceState) -> None:
    look = look_at(FINE, device(state, "x"), device(state, "y"))
    assert judge(look, Thresholds(warn_late=3)).status is Status.OK
    verdict = judge(look, Thresholds(warn_late=2))
    assert verdict.status is Status.WARNING
    assert verdict.reasons == (f"2 late, mute or without heartbeat: x ({state.words}), y ({state.words})",)


def test_devices_that_are_gone_are_critical_from_their_number_on() -> None:
    gone = device(DeviceState.OFFLINE, "x"), device(DeviceState.NEVER_SEEN, "y", is_expected=True, messages=0)
    look = look_at(FINE, *gone)
    assert judge(look, Thresholds(crit_offline=3)).status is Status.OK
    verdict = judge(look, Thresholds(crit_offline=2))
    assert verdict.status is Status.CRITICAL
    assert verdict.reasons == ("2 offline or missing: x (offline), y (never seen)",)


def test_who_is_known_from_a_retained_message_only_is_not_missed() -> None:
    retained = device(DeviceState.NEVER_SEEN, "y", is_retained_only=True, messages=0)
    assert judge(look_at(FINE, retained), Thresholds()).status is Status.OK


def test_critical_outranks_warning_and_both_are_said() -> None:
    verdict = judge(look_at(FINE, device(DeviceState.OFFLINE), device(DeviceState.LATE, "y")), Thresholds())
    assert verdict.status is Status.CRITICAL
    assert [reason.split(":")[0] for reason in verdict.reasons] == [
        "1 offline or missing",
        "1 late, mute or without heartbeat",
    ]


def test_too_low_a_rate_is_critical() -> None:
    assert judge(look_at(FINE), Thresholds(min_rate=1.0)).status is Status.OK
    assert judge(look_at(FINE), Thresholds(min_rate=1.1)).reasons == ("1 messages/s, fewer than 1.1",)


def test_too_many_invalid_payloads_are_critical_with_the_first_error() -> None:
    look = look_at(device(DeviceState.ONLINE, invalid=3, error="soil: missing"))
    assert judge(look, Thresholds()).status is Status.OK
    assert judge(look, Thresholds(max_invalid=3)).status is Status.OK
    verdict = judge(look, Thresholds(max_invalid=2))
    assert verdict.reasons == ("3 invalid payloads: x (3: soil: missing)",)


def test_silence_is_critical() -> None:
    assert judge(look_at(messages=0), Thresholds()).reasons == ("no message of any device in 60 s",)


def test_no_more_than_five_names_are_said() -> None:
    verdict = judge(look_at(*(device(DeviceState.OFFLINE, f"x{n}") for n in range(9))), Thresholds())
    assert verdict.reasons[0].endswith("x4 (offline) and 4 more")


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
    with pytest.raises(ConfigError, match="--"):
        Thresholds(**wrong)  # type: ignore[arg-type]  # each fits its own field


def test_the_document_has_the_summary_and_the_worst_device_first() -> None:
    expected = device(DeviceState.NEVER_SEEN, "y", is_expected=True, messages=0, last_telemetry=None)
    look = look_at(replace(FINE, is_expected=False), expected)
    assert look.document["summary"] == {
        "devices": 2,
        "online": 1,
        "late": 0,
        "no_heartbeat": 0,
        "mute": 0,
        "never_seen": 1,
        "offline": 0,
        "missing": 1,
        "unknown": 1,
        "messages": 60,
        "rate": 1.0,
        "invalid": 0,
        "passed_over": 0,
        "listened_seconds": 60.0,
        "outages": 0,
    }
    assert (look.missing, look.unknown) == (["y"], ["a"])
    rows = look.document["devices"]
    assert isinstance(rows, list)
    assert [row["device_id"] for row in rows] == ["y", "a"]
    assert rows[1]["last_telemetry"] == "2025-11-23T20:15:03.000+00:00"
