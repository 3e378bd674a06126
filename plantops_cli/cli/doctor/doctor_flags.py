"""What can be asked of ``plantops doctor``."""

from dataclasses import dataclass

from plantops_cli.cli.shared.flags import display, subscribe
from plantops_cli.cli.shared.flags.connect import BystanderConnectionFlags
from plantops_cli.cli.shared.flags.display import DocumentChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorFlags:
    """The flags of ``doctor``, in the order of its help; False and nothing mean: not given."""

    filters: subscribe.Filters = ()
    connection: BystanderConnectionFlags = BystanderConnectionFlags()
    qos: subscribe.Qos = 1
    wait_seconds: subscribe.WaitForMessage = 10.0
    is_canary: subscribe.CanaryMessage = False
    output: display.Document = DocumentChoice.TEXT
