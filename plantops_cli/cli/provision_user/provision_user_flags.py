"""What can be asked of ``plantops provision-user``."""

import math
from dataclasses import dataclass
from typing import Annotated

import typer

from plantops_cli.cli.shared.command import Only
from plantops_cli.cli.shared.flags import display, files, login, mode, users
from plantops_cli.cli.shared.flags.connect import ConnectionFlags
from plantops_cli.cli.shared.flags.display import DocumentChoice
from plantops_cli.cli.shared.flags.parsed import MANY
from plantops_cli.cli.shared.flags.users import BackendChoice
from plantops_cli.errors import ConfigError

_STDIN = "-"

ProvisionedUsername = Annotated[
    str | None, typer.Argument(help="User to create or update. (MQTT_BACKEND_USERNAME, else plantops_backend)")
]
# taken, so that what may be a password is refused by us, who do not repeat it
Surplus = Annotated[tuple[str, ...], MANY, typer.Argument(hidden=True, metavar="")]

# no --username, for the user to make is the argument; and whoever proves a login needs no more of MQTT than this
_Connection = Annotated[
    ConnectionFlags,
    Only(
        (
            "secret_file",
            "ask_password",
            "url",
            "host",
            "port",
            "connect_timeout",
            "tls",
            "cafile",
            "cert",
            "key",
            "insecure",
            "env_file",
        )
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionUserFlags:
    """The flags of ``provision-user``, in the order of its help; None, False and nothing mean: not given.

    The login in ``connection`` is that of the user to make.
    """

    username: ProvisionedUsername = None
    surplus: Surplus = ()
    if_missing: mode.IfMissing = False
    fail_on_drift: mode.FailOnDrift = False
    remove: mode.Remove = False
    list_users: mode.ListUsers = False
    dry_run: mode.DryRun = False
    connection: _Connection = ConnectionFlags()
    generate: login.Generate = False
    show: login.Show = False
    allow_control: login.AllowControl = False
    iterations: login.Iterations = None
    file: files.PasswordFile = None
    acl_file: files.ACLFile = None
    owner: files.FileOwner = None
    lock_timeout: files.LockTimeout = 10.0
    backend: users.Backend = BackendChoice.FILE
    config: users.BrokerConfigFile = None
    reload: users.Reload = None
    verify: users.Verify = None
    trial_broker: users.TrialBroker = False
    output: display.Document = DocumentChoice.TEXT

    def __post_init__(self) -> None:
        if self.surplus:
            raise ConfigError(
                "more than a user name is given, and a password is never taken from the command line",
                hint="set MQTT_BACKEND_PASSWORD, give --secret-file FILE (or - for standard input), or use -P",
            )
        for is_so, text, hint in (*self._contradictions_of_modes(), *self._contradictions_of_passwords()):
            if is_so:
                raise ConfigError(text, hint=hint)
        if math.isnan(self.lock_timeout) or self.lock_timeout < 0:
            raise ConfigError(f"--lock-timeout {self.lock_timeout:g}: must be 0 seconds or more")

    def _contradictions_of_modes(self) -> tuple[tuple[bool, str, str | None], ...]:
        stray = self._given_for_a_file
        modes = {"--if-missing": self.if_missing, "--remove": self.remove, "--list": self.list_users}
        chosen = [name for name, is_given in modes.items() if is_given]
        is_made = not (self.remove or self.list_users)
        return (
            (
                self.backend is BackendChoice.DYNSEC and bool(stray),
                f"{' and '.join(stray)}: not for --backend dynsec, where no file is written",
                "leave it out, or --backend",
            ),
            (len(chosen) > 1, f"{' and '.join(chosen)} contradict each other", "choose one of them"),
            (self.fail_on_drift and not self.if_missing, "--fail-on-drift is for --if-missing", "give both"),
            (self.show and not self.generate, "--show is for --generate", "give both"),
            (self.generate and not is_made, f"--generate and {' and '.join(chosen)} contradict each other", None),
            (
                self.trial_broker and not is_made,
                f"--trial-broker and {' and '.join(chosen)} contradict each other",
                None,
            ),
        )

    def _contradictions_of_passwords(self) -> tuple[tuple[bool, str, str | None], ...]:
        connection = self.connection
        return (
            (
                self.generate and connection.ask_password,
                "--generate and --ask-password contradict each other",
                None,
            ),
            (
                self.generate and connection.secret_file == _STDIN,
                "--generate cannot write to standard input",
                "name a file, or use --show",
            ),
            (
                self.generate and not connection.secret_file and not self.show,
                "--generate has nowhere to put the password",
                "give --secret-file FILE, or --show",
            ),
        )

    @property
    def _given_for_a_file(self) -> list[str]:
        """The flags that are given and mean nothing where no file is written."""
        of_a_file = {
            "--file": self.file,
            "--acl-file": self.acl_file,
            "--owner": self.owner,
            "--iterations": self.iterations,
            "--trial-broker": self.trial_broker or None,
            "--reload": self.reload,
        }
        return [name for name, value in of_a_file.items() if value is not None]
