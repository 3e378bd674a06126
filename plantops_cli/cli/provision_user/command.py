"""``plantops provision-user``: make the backend's login, and prove it."""

from typing import Annotated

import typer

from plantops_cli.cli.shared import options as o
from plantops_cli.cli.shared.room import check_room


def provision_user(
    username: Annotated[
        str | None,
        typer.Argument(help="User to create or update. (MQTT_BACKEND_USERNAME, else plantops_backend)"),
    ] = None,
    surplus: Annotated[list[str] | None, typer.Argument(hidden=True, metavar="")] = None,
    *,
    if_missing: o.IfMissing = False,
    fail_on_drift: o.FailOnDrift = False,
    remove: o.Remove = False,
    list_users: o.ListUsers = False,
    dry_run: o.DryRun = False,
    secret_file: o.SecretFile = None,
    ask_password: o.AskPassword = False,
    generate: o.Generate = False,
    show: o.Show = False,
    allow_control: o.AllowControl = False,
    iterations: o.Iterations = None,
    file: o.PasswordFile = None,
    acl_file: o.ACLFile = None,
    owner: o.Owner = None,
    lock_timeout: o.LockTimeout = 10.0,
    backend: o.Backend = o.BackendChoice.FILE,
    config: o.BrokerConfig = None,
    reload: o.Reload = None,
    verify: o.Verify = None,
    canary: o.Canary = False,
    url: o.Url = None,
    host: o.Host = None,
    port: o.Port = None,
    tls: o.Tls = None,
    cafile: o.Cafile = None,
    cert: o.Cert = None,
    key: o.Key = None,
    insecure: o.Insecure = False,
    env_file: o.EnvFile = None,
    output: o.Document = o.DocumentChoice.TEXT,
    debug: o.Debug = False,
) -> None:
    """Create or update a login in Mosquitto's password file, tell the broker, and prove it.

    The password comes from --secret-file or --ask-password, else from
    MQTT_BACKEND_PASSWORD or MQTT_BACKEND_PASSWORD_FILE, else from a prompt.
    Everything else in the files stays as it is, nothing is written when the
    user has the password already, and a file is replaced whole or not at all.
    """
    from plantops_cli.cli.provision_user.flag_names import naming_flags
    from plantops_cli.cli.provision_user.run import ProvisioningFlags
    from plantops_cli.cli.shared.connection import ConnectionFlags
    from plantops_cli.cli.shared.stopping import unwinding

    check_room()
    connection = ConnectionFlags(
        url=url,
        host=host,
        port=port,
        secret_file=secret_file,
        ask_password=ask_password,
        tls=tls,
        cafile=cafile,
        cert=cert,
        key=key,
        insecure=insecure,
        env_file=env_file,
    )
    flags = ProvisioningFlags(
        username=username,
        surplus=tuple(surplus or ()),
        if_missing=if_missing,
        fail_on_drift=fail_on_drift,
        remove=remove,
        list_users=list_users,
        dry_run=dry_run,
        generate=generate,
        show=show,
        allow_control=allow_control,
        iterations=iterations,
        file=file,
        acl_file=acl_file,
        owner=owner,
        lock_timeout=lock_timeout,
        backend=backend,
        config=config,
        reload=reload,
        verify=verify,
        canary=canary,
        output=output,
    )
    if backend is o.BackendChoice.DYNSEC:
        from plantops_cli.cli.provision_user.dynsec_backend import run
    else:
        from plantops_cli.cli.provision_user.run import run
    with unwinding(), naming_flags():
        code = run(flags, connection)
    raise typer.Exit(code)
