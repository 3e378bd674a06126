"""From the flags of ``provision-user`` to a request, and from its outcome to an exit code."""

import grp
import math
import os
import pwd
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from plantops_cli.cli.provision_user.flag_names import in_flags, name_flags
from plantops_cli.cli.provision_user.report import Report
from plantops_cli.cli.shared.connection import ConnectionFlags, address, name_address, resolve
from plantops_cli.cli.shared.exits import Exit, complain, exit_code, explain
from plantops_cli.cli.shared.options import BackendChoice, DocumentChoice
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
_STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisioningFlags:
    """The flags of ``provision-user`` that are not about the connection, as they were given."""

    username: str | None = None
    surplus: tuple[str, ...] = ()
    if_missing: bool = False
    fail_on_drift: bool = False
    remove: bool = False
    list_users: bool = False
    dry_run: bool = False
    generate: bool = False
    show: bool = False
    allow_control: bool = False
    iterations: int | None = None
    file: Path | None = None
    acl_file: Path | None = None
    owner: str | None = None
    lock_timeout: float = 10.0
    backend: BackendChoice = BackendChoice.FILE
    config: Path | None = None
    reload: str | None = None
    verify: bool | None = None
    canary: bool = False
    output: DocumentChoice = DocumentChoice.TEXT


def run(flags: ProvisioningFlags, connection: ConnectionFlags) -> Exit:
    """Do what the flags say, show the outcome and return the exit code.

    Args:
        flags: the flags of the command.
        connection: the connection flags; the login in them is that of the user to make.

    Raises:
        PlantopsError: it was refused; the files are as they were.
    """
    conflict = find_conflict(flags, connection)
    if conflict is not None:
        raise conflict
    settings = resolve(
        connection,
        mqtt_password_file=flags.file,
        mqtt_broker_config=flags.config,
        mqtt_reload=flags.reload,
    )
    report = Report(flags.output, is_dry_run=flags.dry_run)
    if flags.list_users:
        path = find_broker("none", settings.mqtt_broker_config).choose_password_file(settings.mqtt_password_file)
        report.users(path, users(path, lock_timeout_seconds=flags.lock_timeout))
        return Exit.OK
    request = _request(flags, connection, settings)
    if request.address is not None and not flags.dry_run:
        name_address(request.address, settings)
    outcome = _carry_out(request, NewSecret.of(flags, connection, request.password))
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
    def of(cls, flags: ProvisioningFlags, connection: ConnectionFlags, password: bytes | None) -> Self:
        """Make one for a password that is generated, if it is to go to a file."""
        is_wanted = flags.generate and connection.secret_file is not None
        return cls(Path(connection.secret_file) if is_wanted and connection.secret_file else None, password)

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


def find_conflict(flags: ProvisioningFlags, connection: ConnectionFlags) -> ConfigError | None:
    """Find flags that contradict each other, or that make no sense alone."""
    if flags.surplus:
        return ConfigError(
            "more than a user name is given, and a password is never taken from the command line",
            hint="set MQTT_BACKEND_PASSWORD, give --secret-file FILE (or - for standard input), or use -P",
        )
    modes = {"--if-missing": flags.if_missing, "--remove": flags.remove, "--list": flags.list_users}
    chosen = [name for name, is_given in modes.items() if is_given]
    of_a_file = {
        "--file": flags.file,
        "--acl-file": flags.acl_file,
        "--owner": flags.owner,
        "--iterations": flags.iterations,
        "--canary": flags.canary or None,
        "--reload": flags.reload,
    }
    stray = [name for name, value in of_a_file.items() if value is not None]
    rules = (
        (
            flags.backend is BackendChoice.DYNSEC and bool(stray),
            f"{' and '.join(stray)}: not for --backend dynsec, where no file is written",
            "leave it out, or --backend",
        ),
        (len(chosen) > 1, f"{' and '.join(chosen)} contradict each other", "choose one of them"),
        (flags.fail_on_drift and not flags.if_missing, "--fail-on-drift is for --if-missing", "give both"),
        (flags.show and not flags.generate, "--show is for --generate", "give both"),
        (flags.generate and (flags.remove or flags.list_users), f"--generate and {chosen} contradict", None),
        (flags.canary and (flags.remove or flags.list_users), f"--canary and {chosen} contradict", None),
        (flags.generate and connection.ask_password, "--generate and --ask-password contradict each other", None),
        (
            flags.generate and connection.secret_file == _STDIN,
            "--generate cannot write to standard input",
            "name a file, or use --show",
        ),
        (
            flags.generate and not connection.secret_file and not flags.show,
            "--generate has nowhere to put the password",
            "give --secret-file FILE, or --show",
        ),
        (
            math.isnan(flags.lock_timeout) or flags.lock_timeout < 0,
            f"--lock-timeout {flags.lock_timeout:g}: must be 0 seconds or more",
            None,
        ),
    )
    return next((ConfigError(text, hint=hint) for is_so, text, hint in rules if is_so), None)


def find_password(flags: ProvisioningFlags, connection: ConnectionFlags, settings: Settings) -> bytes | None:
    """Return the password that the user is to have; to remove one, it may be None.

    Raises:
        ConfigError: there is none, two sources compete, or it is not allowed.
    """
    if flags.generate:
        return hashing.generate_password()
    found = settings.find_password(secret_file=connection.secret_file, ask=connection.ask_password, confirm=True)
    if found is None and not flags.remove:
        found = prompt_password(confirm=True)
    if found is not None:
        logins.check_password(found, allow_control=flags.allow_control)
    return found


def parse_owner(text: str) -> tuple[int, int]:
    """Look up the uid and gid of ``USER[:GROUP]``; the group is the user's own when none is named.

    Raises:
        ConfigError: there is no such user or group on this machine.
    """
    user, _, group = text.partition(":")
    try:
        known = pwd.getpwnam(user)
        return known.pw_uid, grp.getgrnam(group).gr_gid if group else known.pw_gid
    except (KeyError, ValueError) as exc:
        raise ConfigError(f"--owner {text!a}: no such user or group", hint="USER or USER:GROUP") from exc


def _request(flags: ProvisioningFlags, connection: ConnectionFlags, settings: Settings) -> Request:
    name = settings.mqtt_backend_username if flags.username is None else flags.username
    iterations = hashing.DEFAULT_ITERATIONS if flags.iterations is None else flags.iterations
    hashing.check_iterations(iterations)
    if not (settings.mqtt_password_file or settings.mqtt_broker_config or settings.mqtt_reload):
        raise ConfigError("no password file is given", hint="give --file FILE or set MQTT_PASSWORD_FILE")
    if not flags.remove:
        logins.check_username(name)  # before anybody is asked for a password
    return Request(
        username=name,
        password=find_password(flags, connection, settings),
        password_file=settings.mqtt_password_file,
        acl_file=flags.acl_file,
        mode=Mode.REMOVE if flags.remove else Mode.IF_MISSING if flags.if_missing else Mode.ENSURE,
        iterations=iterations,
        allow_control=flags.allow_control,
        lock_timeout_seconds=flags.lock_timeout,
        new_file_owner=_new_file_owner(flags.owner),
        is_trial_wanted=flags.canary,
        config=settings.mqtt_broker_config,
        reload=settings.mqtt_reload,
        is_proof_wanted=flags.verify is not False,
        address=_address(flags, connection, settings),
        is_dry_run=flags.dry_run,
    )


def _address(flags: ProvisioningFlags, connection: ConnectionFlags, settings: Settings) -> ConnectOptions | None:
    is_wanted = settings.is_address_given if flags.verify is None else flags.verify
    return address(connection, settings) if is_wanted else None


def _new_file_owner(owner: str | None) -> tuple[int, int] | None:
    if owner is not None:
        return parse_owner(owner)
    if os.geteuid() != 0:
        return None
    try:
        # the broker gives up root's rights before it reads its files
        return parse_owner(_BROKER_USER)
    except ConfigError:
        return None


def _carry_out(request: Request, secret: NewSecret) -> Outcome:
    """Provision; a password file that was made for a login that then was not is removed again."""
    try:
        outcome = provision(replace(request, on_ready=secret.keep))
    except PlantopsError:
        secret.discard()
        raise
    if outcome.failure is not None:
        name_flags(outcome.failure)
    return replace(outcome, remarks=tuple(in_flags(remark) for remark in outcome.remarks))


def _notices(request: Request) -> tuple[str, ...]:
    notices = logins.password_notices(request.password) if request.password else []
    if request.iterations > hashing.COSTLY_ITERATIONS:
        seconds = hashing.measure_login_seconds(request.iterations)
        notices.append(hashing.costly_warning(request.iterations, seconds) or "")
    return tuple(notices)
