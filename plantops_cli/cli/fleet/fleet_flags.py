"""What can be asked of ``plantops fleet``."""

from dataclasses import dataclass

from plantops_cli.cli.shared.flags import display, fleet, mode, subscribe
from plantops_cli.cli.shared.flags.connect import WatchfulConnectionFlags
from plantops_cli.cli.shared.flags.display import FleetChoice, MetricsFlags
from plantops_cli.cli.shared.flags.fleet import RosterFlags
from plantops_cli.errors import ConfigError

_ONCE_SECONDS = 30.0
_DOCUMENTS = (FleetChoice.TABLE, FleetChoice.JSON, FleetChoice.CSV, FleetChoice.MD)
_LINES = (FleetChoice.TEXT, FleetChoice.JSONL)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFlags:
    """The flags of ``fleet``, in the order of its help; None, False and nothing mean: not given."""

    connection: WatchfulConnectionFlags = WatchfulConnectionFlags()
    is_once: mode.Once = False
    within_seconds: mode.WithinOnce = None
    former_wait_seconds: mode.FormerWait = None
    is_events: mode.Events = False
    roster: RosterFlags = RosterFlags()
    save_roster: fleet.SaveRoster = None
    offline_after_seconds: fleet.OfflineAfter = None
    field: fleet.ValueField = None
    seq: fleet.SeqField = None
    clock: fleet.ClockField = None
    qos: subscribe.Qos = 1
    devices: subscribe.Devices = ()
    timeout_seconds: subscribe.Timeout = None
    wait_for_broker: subscribe.WaitForBroker = False
    metrics: MetricsFlags = MetricsFlags()
    output: display.Fleet = None
    is_quiet: display.Quiet = False

    def __post_init__(self) -> None:
        if self.is_once and self.is_events:
            raise ConfigError("--once and --events were given together", hint="leave one of them out")
        self._check_once()
        if self.field is not None and (self.is_once or self.is_events):
            raise ConfigError("--field is for the live board", hint="leave it out, or --once and --events")
        if self.metrics.metrics_port is not None and not self.is_events:
            raise ConfigError("--metrics-port is for --events", hint="give --events")
        wanted = _DOCUMENTS if self.is_once else _LINES if self.is_events else ()
        if self.output is not None and self.output not in wanted:
            raise ConfigError(
                f"--output {self.output.value} does not fit",
                hint="table, json, csv or md with --once; text or jsonl with --events",
            )

    def _check_once(self) -> None:
        if self.within_seconds is not None and self.former_wait_seconds is not None:
            raise ConfigError("--wait is the former name of --within", hint="leave it out")
        if not self.is_once and (self._listening_seconds is not None or self.save_roster is not None):
            raise ConfigError("--within and --save-roster are for --once", hint="give --once")
        if self.is_once and self.timeout_seconds is not None:
            raise ConfigError("--timeout is not for --once", hint="--within says how long to listen")

    @property
    def once_seconds(self) -> float:
        """How long to listen before the fleet is shown once."""
        return self._listening_seconds or _ONCE_SECONDS

    @property
    def _listening_seconds(self) -> float | None:
        return self.within_seconds or self.former_wait_seconds
