"""The verdict of a check: is the fleet well, by the conventions of Nagios plugins? Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from plantops_cli.errors import ConfigError
from plantops_cli.fleet.device import DeviceReport, DeviceState
from plantops_cli.fleet.snapshot import AILING, Snapshot, listed
from plantops_cli.formats.terminal import escape_name


class CheckStatus(IntEnum):
    """How it stands; the number is the exit code of a Nagios plugin."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What makes a verdict worse.

    Args:
        warn_late: warning from so many devices that are late, mute or without heartbeat.
        crit_offline: critical from so many devices that are offline, or expected and not seen.
        min_rate: critical below so many messages a second; None: whatever the rate.
        max_invalid: critical above so many invalid telemetry payloads; None: however many.

    Raises:
        ConfigError: one is out of its range; the message begins with its name.
    """

    warn_late: int = 1
    crit_offline: int = 1
    min_rate: float | None = None
    max_invalid: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("warn_late", self.warn_late), ("crit_offline", self.crit_offline)):
            if value < 1:
                raise ConfigError(f"{name} {value}: must be at least 1")
        if self.min_rate is not None and not 0 < self.min_rate < float("inf"):
            raise ConfigError(f"min_rate {self.min_rate:g}: must be more than 0 messages a second")
        if self.max_invalid is not None and self.max_invalid < 0:
            raise ConfigError(f"max_invalid {self.max_invalid}: must not be below 0")


@dataclass(frozen=True, slots=True)
class Figure:
    """A number for whoever draws curves.

    Attributes:
        name: what it counts.
        value: the number.
        unit: ``s`` for seconds, empty for a plain number.
        warning: the range in which it is no warning, as Nagios writes it; empty: any.
        critical: the range in which it is not critical.
    """

    name: str
    value: float
    unit: str = ""
    warning: str = ""
    critical: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found.

    Attributes:
        status: the worst of it.
        reasons: what made it so, the worst first; empty when all is well.
        figures: the numbers behind it.
        notes: what else there is to know: of whom nothing can be said.
    """

    status: CheckStatus
    reasons: tuple[str, ...]
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()


def judge(snapshot: Snapshot, thresholds: Thresholds) -> Verdict:
    """Hold a snapshot of a fleet against thresholds.

    Args:
        snapshot: what was seen.
        thresholds: what is too much, or too little.
    """
    ailing = [report for report in snapshot.worst_first if report.state in AILING]
    gone = [report for report in snapshot.worst_first if _is_gone(report)]
    critical, warnings = list[str](), list[str]()
    if not any(report.messages for report in snapshot.reports):
        critical.append(f"no message of any device in {snapshot.listened_seconds:.0f} s")
    if len(gone) >= thresholds.crit_offline:
        critical.append(f"{len(gone)} offline or missing: {_names(_states(gone))}")
    critical += _too_seldom(snapshot, thresholds.min_rate)
    if thresholds.max_invalid is not None and snapshot.invalid > thresholds.max_invalid:
        wrong = [report for report in snapshot.reports if report.invalid]
        faults = {report.device_id: f"{report.invalid}: {report.error}" for report in wrong}
        critical.append(f"{snapshot.invalid} invalid payloads: {_names(faults)}")
    if len(ailing) >= thresholds.warn_late:
        warnings.append(f"{len(ailing)} late, mute or without heartbeat: {_names(_states(ailing))}")
    status = CheckStatus.CRITICAL if critical else CheckStatus.WARNING if warnings else CheckStatus.OK
    figures = _figures(snapshot, thresholds, len(ailing), len(gone))
    return Verdict(status, (*critical, *warnings), figures, snapshot.notes)


def _too_seldom(snapshot: Snapshot, min_rate: float | None) -> Iterator[str]:
    if min_rate is None:
        return
    if snapshot.rate is None:
        yield f"listened for {snapshot.listened_seconds:.2g} s, too short a time for a rate"
    elif snapshot.rate < min_rate:
        yield f"{snapshot.rate:.3g} messages/s, fewer than {min_rate:g}"


def _is_gone(report: DeviceReport) -> bool:
    return report.state is DeviceState.OFFLINE or (
        report.state is DeviceState.NEVER_SEEN and report.is_expected is True
    )


def _states(reports: list[DeviceReport]) -> dict[str, str]:
    return {report.device_id: report.state.words for report in reports}


def _names(remarks: dict[str, str]) -> str:
    return listed(f"{escape_name(name)} ({remark})" for name, remark in remarks.items())


def _figures(snapshot: Snapshot, thresholds: Thresholds, ailing: int, gone: int) -> tuple[Figure, ...]:
    counts = snapshot.counts
    others = [state for state in reversed(DeviceState) if state is not DeviceState.ONLINE]
    below = "" if thresholds.min_rate is None else f"{thresholds.min_rate:g}:"
    above = "" if thresholds.max_invalid is None else str(thresholds.max_invalid)
    return (
        Figure("devices", len(snapshot.reports)),
        Figure("online", counts[DeviceState.ONLINE]),
        Figure("ailing", ailing, warning=str(thresholds.warn_late - 1)),
        Figure("gone", gone, critical=str(thresholds.crit_offline - 1)),
        *(Figure(state.value, counts[state]) for state in others),
        Figure("unknown", len(snapshot.unknown)),
        Figure("retained_only", len(snapshot.retained_only)),
        Figure("rhythm_unknown", len(snapshot.unsettled)),
        Figure("quiet", len(snapshot.quiet)),
        *(() if snapshot.rate is None else (Figure("rate", round(snapshot.rate, 3), critical=below),)),
        Figure("invalid", snapshot.invalid, critical=above),
        Figure("time", round(snapshot.listened_seconds, 1), "s"),
    )
