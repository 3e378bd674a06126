"""Reports of devices, each different from a healthy one in what a test is about, and a snapshot of them."""

from dataclasses import replace

from plantops_cli.fleet.device import DeviceReport, DeviceState
from plantops_cli.fleet.snapshot import Snapshot

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


def look_at(*reports: DeviceReport, messages: int = 60) -> Snapshot:
    return Snapshot(
        reports=reports,
        taken_at=1.0,
        listened_seconds=60.0,
        messages=messages,
        passed_over=0,
        outages=0,
        clock_offset_seconds=1_763_928_902.0,
    )


def device(state: DeviceState, name: str = "x", **more: object) -> DeviceReport:
    return replace(FINE, device_id=name, state=state, **more)  # type: ignore[arg-type]  # each fits its own field
