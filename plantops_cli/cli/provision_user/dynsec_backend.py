"""``provision-user --backend dynsec``: the same flags, for a broker that keeps its users in its own plugin."""

import asyncio
from dataclasses import replace
from pathlib import Path

from plantops_cli.cli.provision_user.provision_user_flags import ProvisionUserFlags
from plantops_cli.cli.provision_user.report import Report
from plantops_cli.cli.provision_user.run import NewSecret, find_password, judge_drift
from plantops_cli.cli.shared.connection import address, name_address, resolve
from plantops_cli.cli.shared.exits import Exit, complain, exit_code, explain
from plantops_cli.cli.shared.flags.connect import ConnectionFlags
from plantops_cli.cli.shared.stderr import say
from plantops_cli.config import Settings
from plantops_cli.errors import ConfigError, PlantopsError
from plantops_cli.mosquitto.broker.dynsec_client import DynsecOutcome, delete_client, list_clients, make_client
from plantops_cli.mosquitto.broker.proof import Proof, RemovalProof, prove_login, prove_removal
from plantops_cli.mosquitto.files.conf_file import read_config
from plantops_cli.mosquitto.text.actions import Action
from plantops_cli.mosquitto.text.logins import check_username, password_notices
from plantops_cli.stream.options import ConnectOptions


def run(flags: ProvisionUserFlags) -> Exit:
    """Do what the flags say, show the outcome and return the exit code.

    Args:
        flags: the flags of the command.

    Raises:
        PlantopsError: it was refused.
    """
    settings = resolve(flags.connection, mqtt_broker_config=flags.config)
    _check_plugin(settings.mqtt_broker_config)
    admin = _administrator(flags.connection, settings)
    name_address(admin, settings)
    report = Report(flags.output, is_dry_run=flags.dry_run)
    if flags.list_users:
        report.dynsec_users(admin.endpoint, asyncio.run(list_clients(admin)))
        return Exit.OK
    username = settings.mqtt_backend_username if flags.username is None else flags.username
    check_username(username)  # before anybody is asked for a password
    password = find_password(flags, settings)
    outcome = _carry_out(admin, username, password, flags)
    login = replace(admin, username=username, password=password)
    proof, failure = None, None
    try:
        proof = _prove(login, outcome, flags)
    except PlantopsError as exc:
        failure = exc
    is_real = not flags.dry_run and outcome.action is not Action.UNCHANGED
    report.dynsec(
        admin.endpoint,
        outcome,
        proof=proof,
        failure=failure,
        secret=password if flags.show and is_real else None,
        notices=password_notices(password) if password else (),
    )
    if failure is not None:
        complain(explain(failure))
        return exit_code(failure)
    return judge_drift(username, outcome.password_matches, fail_on_drift=flags.fail_on_drift)


def _check_plugin(config_file: Path | None) -> None:
    if config_file is not None and not read_config(config_file).has_dynsec:
        raise ConfigError(
            f"{str(config_file)!r} loads no dynamic security plugin",
            hint="leave --backend out: this broker keeps its users in a password file",
        )


def _administrator(connection: ConnectionFlags, settings: Settings) -> ConnectOptions:
    return replace(
        address(connection, settings),
        username=settings.mqtt_admin_username,
        password=settings.admin_password(),
    )


def _carry_out(
    admin: ConnectOptions,
    username: str,
    password: bytes | None,
    flags: ProvisionUserFlags,
) -> DynsecOutcome:
    if flags.remove or password is None:
        return asyncio.run(delete_client(admin, username, dry_run=flags.dry_run))
    secret = NewSecret.of(flags, password)
    try:
        return asyncio.run(
            make_client(
                admin,
                username,
                password,
                overwrite=not flags.if_missing,
                allow_control=flags.allow_control,
                dry_run=flags.dry_run,
                on_ready=secret.keep,
            )
        )
    except PlantopsError:
        if secret.is_kept:
            say(f"note: the password stays in {secret.path}, for the broker may have taken it")
        raise


def _prove(
    login: ConnectOptions, outcome: DynsecOutcome, flags: ProvisionUserFlags
) -> Proof | RemovalProof | None:
    if flags.verify is False or flags.dry_run:
        return None
    if flags.remove:
        return asyncio.run(prove_removal(login, explain_acceptance=lambda: "something else lets it in"))
    if not outcome.password_matches or not outcome.is_provable:
        return None
    return asyncio.run(
        prove_login(login, is_acl_in_force=False, explain_refusal=lambda: "something else keeps it out")
    )
