"""What can be asked of ``plantops check``."""

from dataclasses import dataclass

from plantops_cli.cli.shared.flags import display, fleet, subscribe, thresholds
from plantops_cli.cli.shared.flags.connect import WatchfulConnectionFlags
from plantops_cli.cli.shared.flags.display import CheckChoice
from plantops_cli.cli.shared.flags.fleet import RosterFlags


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFlags:
    """The flags of ``check``, in the order of its help; None and nothing mean: not given."""

    connection: WatchfulConnectionFlags = WatchfulConnectionFlags()
    within_seconds: thresholds.Within = 60.0
    warn_late: thresholds.WarnLate = 1
    crit_offline: thresholds.CritOffline = 1
    min_rate: thresholds.MinRate = None
    max_invalid: thresholds.MaxInvalid = None
    contract: thresholds.Contract = None
    roster: RosterFlags = RosterFlags()
    offline_after_seconds: fleet.OfflineAfter = None
    qos: subscribe.Qos = 1
    devices: subscribe.Devices = ()
    output: display.CheckOutput = CheckChoice.NAGIOS
