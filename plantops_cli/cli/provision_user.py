"""``plantops provision-user``: make the backend's login in Mosquitto's password file."""

from typing import TYPE_CHECKING, Annotated

import typer

from plantops_cli.cli import options as o

if TYPE_CHECKING:
    from plantops_cli.config import Settings
    from plantops_cli.mosquitto.password_file import Provisioned


def provision_user(
    username: Annotated[
        str | None,
        typer.Argument(help="User to create or update. (MQTT_BACKEND_USERNAME, else plantops_backend)"),
    ] = None,
    *,
    file: o.PasswordFile = None,
    secret_file: o.SecretFile = None,
    ask_password: o.AskPassword = False,
    debug: o.Debug = False,
) -> None:
    """Create or update a login in Mosquitto's password file.

    The password comes from --secret-file or --ask-password, else from
    MQTT_BACKEND_PASSWORD or MQTT_BACKEND_PASSWORD_FILE, else from a prompt.
    Everything else in the file stays as it is, and nothing is written when
    the user has the password already.
    """
    from plantops_cli.config import load_settings
    from plantops_cli.errors import ConfigError
    from plantops_cli.mosquitto import password_file, passwords

    settings = load_settings(mqtt_password_file=file)
    path = settings.mqtt_password_file
    if path is None:
        raise ConfigError("no password file is given", hint="give --file FILE or set MQTT_PASSWORD_FILE")
    name = settings.mqtt_backend_username if username is None else username
    passwords.check_username(name)  # before anybody is asked for a password
    password = _password(settings, secret_file, ask=ask_password)
    _report(password_file.provision_user(path, name, password))


def _password(settings: "Settings", secret_file: str | None, *, ask: bool) -> bytes:
    from plantops_cli.credentials import prompt_password

    found = settings.find_password(secret_file=secret_file, ask=ask, confirm=True)
    return prompt_password(confirm=True) if found is None else found


def _report(outcome: "Provisioned") -> None:
    from plantops_cli.mosquitto.password_file import Action

    path = _shown(str(outcome.path))
    typer.echo(f"{_shown(outcome.username)}: {outcome.action} in {path}")
    if outcome.is_new_file:
        typer.echo(f"it is a new file: let the broker read it, for example: chown mosquitto {path}", err=True)
    if outcome.action is not Action.UNCHANGED:
        typer.echo("reload the broker for it to take effect, for example: systemctl reload mosquitto", err=True)


def _shown(text: str) -> str:
    return text if text.isprintable() else ascii(text)
