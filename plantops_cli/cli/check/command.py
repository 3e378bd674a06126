"""``plantops check``: one bounded look with the exit codes of a Nagios plugin."""

import typer

from plantops_cli.cli.shared import options as o
from plantops_cli.cli.shared.room import check_room


@o.with_connection(keepalive=5)
def check(
    *,
    connection: o.Connection,
    within: o.Within = "60s",
    warn_late: o.WarnLate = 1,
    crit_offline: o.CritOffline = 1,
    min_rate: o.MinRate = None,
    max_invalid: o.MaxInvalid = None,
    contract: o.Contract = None,
    expect: o.Expect = None,
    expect_ids: o.ExpectIds = None,
    offline_after: o.OfflineAfter = None,
    qos: o.Qos = 1,
    device: o.Device = None,
    output: o.CheckOutput = o.CheckChoice.NAGIOS,
    debug: o.Debug = False,
) -> None:
    """Look at the fleet for a while, and exit with 0 ok, 1 warning, 2 critical or 3 unknown.

    One line says why, with performance data. Who says nothing within the time
    is missed only if --expect names it.
    """
    import asyncio

    from plantops_cli.cli.check.run import CheckFlags, run_check
    from plantops_cli.cli.shared.connection import ConnectionFlags

    check_room()
    flags = CheckFlags(
        within=within,
        warn_late=warn_late,
        crit_offline=crit_offline,
        min_rate=min_rate,
        max_invalid=max_invalid,
        contract=contract,
        expect=expect,
        expect_ids=expect_ids,
        offline_after=offline_after,
        qos=qos,
        devices=tuple(device or ()),
        output=output,
    )
    raise typer.Exit(asyncio.run(run_check(flags, ConnectionFlags(**connection))))
