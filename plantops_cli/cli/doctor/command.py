"""``plantops doctor``: what is wrong between here and the first message."""

import typer

from plantops_cli.cli.doctor.doctor_flags import DoctorFlags
from plantops_cli.cli.shared.command import command
from plantops_cli.cli.shared.room import check_room


@command()
def doctor(flags: DoctorFlags) -> None:
    """Try each step to the broker by itself, and say what is broken and how to mend it.

    Settings, host name, TCP, TLS, login, what the broker grants, each
    subscription, the first message. The exit code is that of what is broken.
    """
    import asyncio

    from plantops_cli.cli.doctor.run import examine

    check_room()
    raise typer.Exit(asyncio.run(examine(flags)))
