"""``plantops doctor``: what is wrong between here and the first message."""

import typer

from plantops_cli.cli.shared import options as o
from plantops_cli.cli.shared.room import check_room


@o.with_connection()
def doctor(
    filters: o.Filters = None,
    *,
    connection: o.Connection,
    qos: o.Qos = 1,
    wait: o.WaitForMessage = "10s",
    canary: o.CanaryMessage = False,
    output: o.Document = o.DocumentChoice.TEXT,
    debug: o.Debug = False,
) -> None:
    """Try each step to the broker by itself, and say what is broken and how to mend it.

    Settings, host name, TCP, TLS, login, what the broker grants, each
    subscription, the first message. The exit code is that of what is broken.
    """
    import asyncio

    from plantops_cli.cli.doctor.run import examine
    from plantops_cli.cli.shared.connection import ConnectionFlags
    from plantops_cli.cli.shared.watching import parse_duration

    check_room()
    seconds = parse_duration(wait, flag="--wait")
    flags = ConnectionFlags(**connection)
    is_json = output is o.DocumentChoice.JSON
    code = asyncio.run(
        examine(flags, tuple(filters or ()), qos=qos, wait_seconds=seconds, is_canary=canary, is_json=is_json)
    )
    raise typer.Exit(code)
