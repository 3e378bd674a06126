"""``plantops provision-user``: make the backend's login, and prove it."""

import typer

from plantops_cli.cli.provision_user.provision_user_flags import ProvisionUserFlags
from plantops_cli.cli.shared.command import command
from plantops_cli.cli.shared.flags.users import BackendChoice
from plantops_cli.cli.shared.room import check_room


@command()
def provision_user(flags: ProvisionUserFlags) -> None:
    """Create or update a login in Mosquitto's password file, tell the broker, and prove it.

    The password comes from --secret-file or --ask-password, else from
    MQTT_BACKEND_PASSWORD or MQTT_BACKEND_PASSWORD_FILE, else from a prompt.
    Everything else in the files stays as it is, nothing is written when the
    user has the password already, and a file is replaced whole or not at all.
    """
    from plantops_cli.cli.shared.stopping import unwinding

    check_room()
    if flags.backend is BackendChoice.DYNSEC:
        from plantops_cli.cli.provision_user.dynsec_backend import run
    else:
        from plantops_cli.cli.provision_user.run import run
    with unwinding():
        code = run(flags)
    raise typer.Exit(code)
