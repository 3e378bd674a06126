"""From the flags of ``provision-user`` to a request, and from its outcome to an exit code."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Self

from plantops_cli.cli.provision_user.provision_user_flags import ProvisionUserFlags
from plantops_cli.cli.provision_user.report import Report
from plantops_cli.cli.shared.connection import address, name_address, resolve
from plantops_cli.cli.shared.exits import Exit, complain, exit_code, explain
from plantops_cli.cli.shared.flags.files import find_owner
from plantops_cli.cli.shared.hints import in_flags
from plantops_cli.config import Settings
from plantops_cli.credentials import prompt_password, write_secret_file
from plantops_cli.errors import ConfigError, PlantopsError
from plantops_cli.mosquitto.broker.broker import find_broker
from plantops_cli.mosquitto.files.password_file import users
from plantops_cli.mosquitto.provisioning import Mode, Outcome, Request, provision
from plantops_cli.mosquitto.text import hashing, logins
from plantops_cli.mosquitto.text.actions import Action
from plantops_cli.stream.options import ConnectOptions

_BROKER_USER = "mosquitto"


def run(flags: ProvisionUserFlags) -> Exit:
    """Do what the flags say, show the outcome and return the exit code.

    Args:
        flags: the flags of the command.

    Raises:
        PlantopsError: it was refused; the files are as they were.
    """
    settings = resolve(
        flags.connection,
        mqtt_password_file=flags.file,
        mqtt_broker_config=flags.config,
        mqtt_reload=flags.reload,
    )
    report = Report(flags.output, is_dry_run=flags.dry_run)
    if flags.list_users:
        path = find_broker("none", settings.mqtt_broker_config).choose_password_file(settings.mqtt_password_file)
        report.users(path, users(path, lock_timeout_seconds=flags.lock_timeout))
        return Exit.OK
    request = _request(flags, settings)
    if request.address is not None and not flags.dry_run:
        name_address(request.address, settings)
    outcome = _carry_out(request, NewSecret.of(flags, request.password))
    is_real = not flags.dry_run and outcome.login.action is not Action.UNCHANGED
    secret = request.password if flags.show and is_real else None
    report.outcome(outcome, secret=secret, notices=_notices(request))
    if outcome.failure is not None:
        complain(explain(outcome.failure))
        return exit_code(outcome.failure)
    return judge_drift(request.username, outcome.login.password_matches, fail_on_drift=flags.fail_on_drift)


def judge_drift(username: str, password_matches: bool | None, *, fail_on_drift: bool) -> Exit:
    """Choose the exit code of a run in which nothing failed.

    Args:
        username: the user.
        password_matches: whether it has the password that was given, if that is known.
        fail_on_drift: whether another password is an error.
    """
    if fail_on_drift and password_matches is False:
        complain(f"{username} has another password than the one given; it was left as it is")
        return Exit.CREDENTIALS
    return Exit.OK


class NewSecret:
    """A password that may have to be written to a file, once nothing stands in its way any more.

    Args:
        path: the file, or None when there is nothing to be kept.
        password: the password.
    """

    def __init__(self, path: Path | None, password: bytes | None) -> None:
        self.path = path
        self.is_kept = False
        self._password = password

    @classmethod
    def of(cls, flags: ProvisionUserFlags, password: bytes | None) -> Self:
        """Make one for a password that is generated, if it is to go to a file."""
        path = flags.connection.secret_file if flags.generate else None
        return cls(Path(path) if path else None, password)

    def keep(self) -> None:
        """Write the file, which must not exist.

        Raises:
            ConfigError: it exists, or cannot be written.
        """
        if self.path is not None and self._password is not None:
            write_secret_file(self.path, self._password)
            self.is_kept = True

    def discard(self) -> None:
        """Remove the file again, if it was written."""
        if self.path is not None and self.is_kept:
            self.path.unlink(missing_ok=True)
            self.is_kept = False


def find_password(flags: ProvisionUserFlags, settings: Settings) -> bytes | None:
    """Return the password that the user is to have; to remove one, it may be None.

    Raises:
        ConfigError: there is none, two sources compete, or it is not allowed.
    """
    if flags.generate:
        return hashing.generate_password()
    connection = flags.connection
    found = settings.find_password(secret_file=connection.secret_file, ask=connection.ask_password, confirm=True)
    if found is None and not flags.remove:
        found = prompt_password(confirm=True)
    if found is not None:
        logins.check_password(found, allow_control=flags.allow_control)
    return found


def _request(flags: ProvisionUserFlags, settings: Settings) -> Request:
    name = settings.mqtt_backend_username if flags.username is None else flags.username
    iterations = hashing.DEFAULT_ITERATIONS if flags.iterations is None else flags.iterations
    hashing.check_iterations(iterations)
    if not (settings.mqtt_password_file or settings.mqtt_broker_config or settings.mqtt_reload):
        raise ConfigError("no password file is given", hint="give --file FILE or set MQTT_PASSWORD_FILE")
    if not flags.remove:
        logins.check_username(name)  # before anybody is asked for a password
    return Request(
        username=name,
        password=find_password(flags, settings),
        password_file=settings.mqtt_password_file,
        acl_file=flags.acl_file,
        mode=Mode.REMOVE if flags.remove else Mode.IF_MISSING if flags.if_missing else Mode.ENSURE,
        iterations=iterations,
        allow_control=flags.allow_control,
        lock_timeout_seconds=flags.lock_timeout,
        new_file_owner=_broker_user() if flags.owner is None else flags.owner,
        is_trial_wanted=flags.trial_broker,
        config=settings.mqtt_broker_config,
        reload=settings.mqtt_reload,
        is_proof_wanted=flags.verify is not False,
        address=_address(flags, settings),
        connect_timeout_seconds=flags.connection.connect_timeout,
        is_dry_run=flags.dry_run,
    )


def _address(flags: ProvisionUserFlags, settings: Settings) -> ConnectOptions | None:
    is_wanted = settings.is_address_given if flags.verify is None else flags.verify
    return address(flags.connection, settings) if is_wanted else None


def _broker_user() -> tuple[int, int] | None:
    """Who is to own a file that root makes, if there is such a user."""
    if os.geteuid() != 0:
        return None
    try:
        # the broker gives up root's rights before it reads its files
        return find_owner(_BROKER_USER)
    except ConfigError:
        return None


def _carry_out(request: Request, secret: NewSecret) -> Outcome:
    """Provision; a password file that was made for a login that then was not is removed again."""
    try:
        outcome = provision(replace(request, on_ready=secret.keep))
    except PlantopsError:
        secret.discard()
        raise
    return replace(outcome, remarks=tuple(in_flags(remark) for remark in outcome.remarks))


def _notices(request: Request) -> tuple[str, ...]:
    notices = logins.password_notices(request.password) if request.password else []
    if request.iterations > hashing.COSTLY_ITERATIONS:
        seconds = hashing.measure_login_seconds(request.iterations)
        notices.append(hashing.costly_warning(request.iterations, seconds) or "")
    return tuple(notices)
