"""What can be asked of ``plantops listen``."""

from dataclasses import dataclass

from plantops_cli.cli.shared.flags import connect, display, subscribe
from plantops_cli.cli.shared.flags.connect import ConnectionFlags
from plantops_cli.cli.shared.flags.display import FileFlags, MetricsFlags
from plantops_cli.cli.shared.flags.subscribe import SessionFlags
from plantops_cli.errors import ConfigError
from plantops_cli.formats.registry import Format


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenFlags:
    """The flags of ``listen``, in the order of its help; None, False and nothing mean: not given."""

    filters: subscribe.Filters = ()
    connection: ConnectionFlags = ConnectionFlags()
    is_login_ensured: connect.EnsureUser = False
    qos: subscribe.Qos = 1
    count: subscribe.Count = None
    timeout_seconds: subscribe.Timeout = None
    filter_out: subscribe.FilterOut = ()
    devices: subscribe.Devices = ()
    kind: subscribe.KindOnly = None
    no_retained: subscribe.NoRetained = False
    retained_only: subscribe.RetainedOnly = False
    session: SessionFlags = SessionFlags()
    wait_for_broker: subscribe.WaitForBroker = False
    output: display.Output = None
    file: FileFlags = FileFlags()
    metrics: MetricsFlags = MetricsFlags()
    is_quiet: display.Quiet = False

    def __post_init__(self) -> None:
        if self.session.durable is not None and self.qos == 0:
            raise ConfigError("--durable and --qos 0: a broker keeps nothing of QoS 0", hint="leave --qos out")
        if self.file.to is not None and self.output not in (None, Format.JSONL):
            # by which a file is known for ours when it is continued
            raise ConfigError(f"--to writes JSON lines, not --output {self.output}", hint="leave --output out")
