"""``plantops doctor``: what is wrong between here and the first message."""

from dataclasses import dataclass

import typer

from plantops_cli.cli.shared.command import command
from plantops_cli.cli.shared.flags import display, subscribe
from plantops_cli.cli.shared.flags.connect import ConnectionFlags
from plantops_cli.cli.shared.flags.display import DocumentChoice
from plantops_cli.cli.shared.room import check_room


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorFlags:
    """The flags of ``doctor``, in the order of its help; False and nothing mean: not given."""

    filters: subscribe.Filters = ()
    connection: ConnectionFlags = ConnectionFlags()
    qos: subscribe.Qos = 1
    wait_seconds: subscribe.WaitForMessage = 10.0
    is_canary: subscribe.CanaryMessage = False
    output: display.Document = DocumentChoice.TEXT


@command()
def doctor(flags: DoctorFlags) -> None:
    """Try each step to the broker by itself, and say what is broken and how to mend it.

    Settings, host name, TCP, TLS, login, what the broker grants, each
    subscription, the first message. The exit code is that of what is broken.
    """
    import asyncio

    from plantops_cli.cli.doctor.run import examine

    check_room()
    code = asyncio.run(
        examine(
            flags.connection,
            flags.filters,
            qos=flags.qos,
            wait_seconds=flags.wait_seconds,
            is_canary=flags.is_canary,
            is_json=flags.output is DocumentChoice.JSON,
        )
    )
    raise typer.Exit(code)
