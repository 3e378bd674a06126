"""A snapshot of a fleet: what the reports of its devices come to. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from plantops_cli.fleet.device import RETAINED_ONLY, DeviceReport, DeviceState
from plantops_cli.formats.terminal import escape_name

_RANK = {state: rank for rank, state in enumerate(DeviceState)}
_SOUGHT = {"seq": "sequence number", "clock": "timestamp", "field": "number"}
AILING = (DeviceState.LATE, DeviceState.MUTE, DeviceState.NO_HEARTBEAT)
_LEAST_SECONDS = 1.0
_NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What was seen of a fleet.

    Args:
        reports: one for each device, in any order.
        taken_at: when it was taken, by the clock of the reports.
        listened_seconds: for how long there was a connection.
        messages: how many came.
        passed_over: how many of these were of no device, or of one too many.
        outages: how often the connection was lost.
        clock_offset_seconds: what to add to the times of the reports to get seconds since 1970.
        absent_fields: as ``Presence.absent_fields``.
        old_messages: how many of the messages were retained or came a second time, and belong to no rate.
    """

    reports: tuple[DeviceReport, ...]
    taken_at: float
    listened_seconds: float
    messages: int
    passed_over: int
    outages: int
    clock_offset_seconds: float
    absent_fields: Mapping[str, str] = field(default_factory=dict[str, str])
    old_messages: int = 0

    @property
    def worst_first(self) -> list[DeviceReport]:
        """The reports, the worst states first, and by id among equals."""
        return sorted(self.reports, key=lambda report: (_RANK[report.state], report.device_id))

    @property
    def counts(self) -> dict[DeviceState, int]:
        """How many devices are in each state, every state named."""
        counts = dict.fromkeys(DeviceState, 0)
        for report in self.reports:
            counts[report.state] += 1
        return counts

    @property
    def missing(self) -> list[str]:
        """Expected devices of which nothing was heard."""
        return sorted(report.device_id for report in self.reports if report.is_expected and not report.messages)

    @property
    def unknown(self) -> list[str]:
        """Devices that were heard and not expected, if there is a roster."""
        return sorted(
            report.device_id for report in self.reports if report.is_expected is False and report.messages
        )

    @property
    def invalid(self) -> int:
        """Invalid telemetry payloads."""
        return sum(report.invalid for report in self.reports)

    @property
    def retained_only(self) -> list[str]:
        """Devices of which only a retained message is known."""
        return sorted(report.device_id for report in self.reports if report.is_retained_only)

    @property
    def quiet(self) -> list[str]:
        """Devices of which a topic fell quiet before its rhythm was known, which changes no state."""
        return sorted(report.device_id for report in self.reports if report.is_quiet)

    @property
    def unsettled(self) -> list[str]:
        """Devices that were heard, and of which no topic has a known rhythm: they cannot be late."""
        return sorted(report.device_id for report in self.reports if report.messages and not report.is_judged)

    @property
    def notes(self) -> tuple[str, ...]:
        """Of whom nothing can be said, for the rhythm is not known."""
        quiet = self.quiet
        seldom = sorted({*self.unsettled} - {*quiet})
        kinds = (
            (quiet, "quiet before the rhythm was known"),
            (self.retained_only, RETAINED_ONLY),
            (seldom, "heard too seldom to know the rhythm"),
        )
        return tuple(f"{len(names):,} {what}: {listed(map(escape_name, names))}" for names, what in kinds if names)

    @property
    def rate(self) -> float | None:
        """Messages a second, of those that were heard live; None: not listened for a second yet."""
        if self.listened_seconds < _LEAST_SECONDS:
            return None
        return (self.messages - self.old_messages) / self.listened_seconds

    @property
    def absences(self) -> list[str]:
        """What was looked for in the messages and is in none of them, in words."""
        return [f"no {_SOUGHT[role]} in {name!r} of any message" for role, name in self.absent_fields.items()]

    @property
    def summary(self) -> dict[str, object]:
        """The whole in a few numbers, as the JSON document has them."""
        return {
            "devices": len(self.reports),
            **{state.value: number for state, number in reversed(self.counts.items())},
            "missing": len(self.missing),
            "unknown": len(self.unknown),
            "retained_only": len(self.retained_only),
            "rhythm_unknown": len(self.unsettled),
            "quiet": len(self.quiet),
            "messages": self.messages,
            "rate": _rounded(self.rate),
            "invalid": self.invalid,
            "passed_over": self.passed_over,
            "listened_seconds": round(self.listened_seconds, 1),
            "outages": self.outages,
            **({"absent_fields": dict(self.absent_fields)} if self.absent_fields else {}),
        }

    @property
    def document(self) -> dict[str, object]:
        """The JSON document: the summary, and the devices, worst first."""
        return {"summary": self.summary, "devices": [self.row(report) for report in self.worst_first]}

    def row(self, report: DeviceReport) -> Mapping[str, object]:
        """One device as the JSON document and the CSV table have it.

        Args:
            report: one of the reports.
        """
        return {
            "device_id": report.device_id,
            "state": report.state.value,
            "last_telemetry": self._moment(report.last_telemetry),
            "last_heartbeat": self._moment(report.last_heartbeat),
            "telemetry_silent_seconds": _rounded(report.telemetry_silent_seconds),
            "heartbeat_silent_seconds": _rounded(report.heartbeat_silent_seconds),
            "interval_seconds": _rounded(report.interval_seconds),
            "heartbeat_interval_seconds": _rounded(report.heartbeat_interval_seconds),
            "telemetry_rhythm": report.telemetry_rhythm,
            "heartbeat_rhythm": report.heartbeat_rhythm,
            "rate": _rounded(report.rate, 6),
            "messages": report.messages,
            "bytes": report.size_bytes,
            "invalid": report.invalid,
            "error": report.error,
            "retained_only": report.is_retained_only,
            "expected": report.is_expected,
            "missing": report.missing,
            "missed": report.missed,
            "out_of_order": report.out_of_order,
            "duplicates": report.duplicates,
            "restarts": report.restarts,
            "lag_seconds": _rounded(report.lag_seconds),
            "jitter_seconds": _rounded(report.jitter_seconds),
            "skew_seconds": _rounded(report.skew_seconds),
            "remarks": list(report.remarks),
        }

    def _moment(self, at: float | None) -> str | None:
        if at is None:
            return None
        return datetime.fromtimestamp(at + self.clock_offset_seconds, UTC).isoformat(timespec="milliseconds")


def listed(names: Iterable[str]) -> str:
    """The first few of many names, and how many more there are.

    Args:
        names: as they are to be shown.
    """
    names = list(names)
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"{shown} and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else shown


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)
