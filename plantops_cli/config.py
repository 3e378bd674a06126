"""Settings: the one place where arguments, environment and ``.env`` meet, in this order of precedence.

The only importer of pydantic_settings.
"""

import logging
import os
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BeforeValidator, Field, PrivateAttr, SecretBytes, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from plantops_cli.credentials import choose_password
from plantops_cli.envfile import ADDRESS, PASSWORDS, find_env_file, read_env_file, take
from plantops_cli.errors import ConfigError, shown_username

_logger = logging.getLogger("plantops.config")

DEFAULT_USERNAME = "plantops_backend"
PLAIN_PORT = 1883
TLS_PORT = 8883

_SCHEMES = {"mqtt": False, "mqtts": True}
# what names a secret file may be the secret itself by mistake
_SECRET = {f"mqtt_{who}_password{kind}" for who in ("backend", "admin") for kind in ("", "_file")}
_URL_FORM = "mqtt://HOST:PORT, or mqtts://HOST:PORT"

Port = Annotated[int, Field(ge=1, le=65_535)]


def _in_bytes(password: object) -> object:
    if isinstance(password, SecretStr):
        password = password.get_secret_value()
    return password.encode(errors="surrogateescape") if isinstance(password, str) else password


# what MQTT carries; text would have to be UTF-8
_IN_BYTES = BeforeValidator(_in_bytes)


class Settings(BaseSettings):
    """What plantops needs to know of its surroundings; each field is the environment variable of its name."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    mqtt_host: str = Field("localhost", description="name or address of the broker")
    mqtt_port: Port | None = Field(None, description="its port; default 1883, with TLS 8883")
    mqtt_backend_username: str = Field(DEFAULT_USERNAME, description="user name of the login")
    mqtt_backend_password: Annotated[SecretBytes | None, _IN_BYTES] = Field(
        None, description="password of the login"
    )
    mqtt_backend_password_file: Path | None = Field(None, description="file that holds the password instead")
    mqtt_password_file: Path | None = Field(
        None, description="Mosquitto's password file, for `provision-user` and the start of a backend"
    )
    mqtt_broker_config: Path | None = Field(
        None, description="the broker's `mosquitto.conf`, for `provision-user` and the start of a backend"
    )
    mqtt_reload: str | None = Field(
        None,
        description="how to tell the broker: `pid:FILE`, `systemd:UNIT`, `docker:NAME`, `command:CMD` or `none`",
    )
    mqtt_admin_username: str = Field("admin", description="administrator of the dynamic security plugin")
    mqtt_admin_password: Annotated[SecretBytes | None, _IN_BYTES] = Field(
        None, description="password of the administrator"
    )
    mqtt_admin_password_file: Path | None = Field(None, description="file that holds that password instead")
    mqtt_tls: bool | None = Field(None, description="speak TLS; implied by port 8883 and by the files below")
    mqtt_cafile: Path | None = Field(None, description="certificate authorities to trust, PEM")
    mqtt_certfile: Path | None = Field(None, description="client certificate, PEM")
    mqtt_keyfile: Path | None = Field(None, description="its private key, PEM")
    mqtt_client_id: str | None = Field(
        None,
        description="MQTT client id of a listener; default: a random one, as `check`, `doctor` and `fleet` have",
    )

    _by_file: dict[str, Path] = PrivateAttr(default_factory=dict)
    """Which file decided a setting, for those that one did."""

    @property
    def is_tls(self) -> bool:
        """Whether to speak TLS: as told, else when the port or a certificate file says so."""
        if self.mqtt_tls is not None:
            return self.mqtt_tls
        return self.mqtt_port == TLS_PORT or bool(self.mqtt_cafile or self.mqtt_certfile or self.mqtt_keyfile)

    @property
    def port(self) -> int:
        """The broker's port, the usual one when none is set."""
        return self.mqtt_port or (TLS_PORT if self.is_tls else PLAIN_PORT)

    def without_client_id(self) -> Self:
        """Return the same settings with a random client id, for a connection beside the one that they are for.

        Of two clients with one id, a broker ends the connection of the first (MQTT 5, 3.1.4).
        """
        # what is said to be set would have come from somewhere
        return self if self.mqtt_client_id is None else self.model_copy(update={"mqtt_client_id": None})

    def find_password(
        self, *, secret_file: str | None = None, ask: bool = False, confirm: bool = False
    ) -> bytes | None:
        """Return the password of the login from where it is kept, or None when no source is given.

        Args:
            secret_file: a file that holds it, or ``-`` for standard input.
            ask: whether to ask on the terminal.
            confirm: whether a prompt asks twice.

        Raises:
            ConfigError: two sources compete, or the one that is given holds no password.
        """
        secret = self.mqtt_backend_password
        return choose_password(
            secret_file=secret_file,
            ask=ask,
            environment=secret.get_secret_value() if secret else None,
            environment_file=self.mqtt_backend_password_file,
            confirm=confirm,
        )

    def admin_password(self) -> bytes:
        """Return the password of the administrator.

        Raises:
            ConfigError: no source is given, or two, or the one that is given holds no password.
        """
        secret = self.mqtt_admin_password
        password = choose_password(
            secret_file=None,
            ask=False,
            environment=secret.get_secret_value() if secret else None,
            environment_file=self.mqtt_admin_password_file,
            variable="MQTT_ADMIN_PASSWORD",
        )
        if password is None:
            raise ConfigError(
                f"no password for the administrator {shown_username(self.mqtt_admin_username)!r}",
                hint="set MQTT_ADMIN_PASSWORD or MQTT_ADMIN_PASSWORD_FILE",
            )
        return password

    @property
    def is_address_given(self) -> bool:
        """Whether anybody said where the broker is; otherwise its address is only the default."""
        return not self.model_fields_set.isdisjoint({"mqtt_host", "mqtt_port"})

    @property
    def address_source(self) -> str | None:
        """What a ``.env``, or the file named instead, says of where a password goes; None when it says nothing."""
        names = [name for name in ADDRESS if name in self._by_file]
        return f"{', '.join(map(str.upper, names))} from {self._by_file[names[0]]}" if names else None

    def password(self, *, secret_file: str | None = None, ask: bool = False) -> bytes:
        """Return the password of the login, as ``find_password`` does.

        Raises:
            ConfigError: as there, or no source is given.
        """
        password = self.find_password(secret_file=secret_file, ask=ask)
        if password is None:
            raise ConfigError(
                f"no password for {shown_username(self.mqtt_backend_username)!r}",
                hint="set MQTT_BACKEND_PASSWORD, or give secret_file=FILE or ask=True",
            )
        return password


def load_settings(*, env_file: str | os.PathLike[str] | None = None, **flags: object) -> Settings:
    """Resolve the settings: argument, then environment, then ``.env``, then default.

    A ``.env`` that others could have had a hand in is ignored, and from none everything is taken (see
    ``plantops_cli.envfile``); the log is warned of what was left out.

    Args:
        env_file: a file to read instead of ``.env``, whoever owns it.
        flags: values that outrank all others, by field; None means that there is none.

    Raises:
        ConfigError: a value is not what its setting takes, or ``env_file`` cannot be read; no secret is repeated.
    """
    given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    file = find_env_file() if env_file is None else read_env_file(Path(env_file))
    taken: dict[str, Any] = dict(_passwords_in_environment())
    if file is not None:
        chosen = take(file, Settings.model_fields.keys() - given.keys() - _names_in_environment())
        for warning in chosen.warnings:
            _logger.warning("%s", warning)
        taken.update(chosen.values)
    try:
        settings = Settings(**taken | given)
    except ValidationError as exc:
        raise _explain(exc.errors()[0], given) from None  # the foreign error repeats the value, secret or not
    if file is not None:
        settings._by_file.update(dict.fromkeys(chosen.values, file.path))  # noqa: SLF001  # made here, and handed out frozen
    return settings


def origins(settings: Settings, **flags: object) -> dict[str, str]:
    """Tell where each setting came from.

    That is its own name, for an argument, or ``environment``, the name of a file (``.env``), or ``default``.

    Args:
        settings: resolved settings.
        flags: the values that ``load_settings`` got.
    """
    found = {}
    for name in Settings.model_fields:
        if flags.get(name) is not None:
            found[name] = name
        elif name not in settings.model_fields_set:
            found[name] = "default"
        else:
            file = settings._by_file.get(name)  # noqa: SLF001  # of the class above
            found[name] = "environment" if file is None else str(file)
    return found


def _passwords_in_environment() -> dict[str, bytes]:
    """The very bytes, whatever the locale makes of them as text."""
    return {
        name.lower(): os.fsencode(value)
        for name, value in os.environ.items()
        if name.lower() in PASSWORDS and value
    }


def _names_in_environment() -> set[str]:
    return {name.lower() for name, value in os.environ.items() if value}


def parse_url(url: str) -> dict[str, object]:
    """Take ``mqtt://[USER@]HOST[:PORT]`` or ``mqtts://...`` apart into settings.

    Args:
        url: the URL; what is percent-encoded in it is decoded, and a port that is not in it is the usual one.

    Raises:
        ConfigError: another scheme, no host, a bad port, a password or a path; the URL is not repeated.
    """
    parts, port = _split_url(url)
    if parts.scheme not in _SCHEMES:
        raise ConfigError("broker URL: the scheme is neither mqtt nor mqtts", hint=_URL_FORM)
    if parts.password is not None:
        raise ConfigError(
            "broker URL holds a password, which every user of this machine could read",
            hint="take it out; set MQTT_BACKEND_PASSWORD",
        )
    if not parts.hostname:
        raise ConfigError("broker URL: no host", hint=_URL_FORM)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError("broker URL: nothing may follow the port", hint="give topic filters as arguments")
    is_tls = _SCHEMES[parts.scheme]
    usual_port = TLS_PORT if is_tls else PLAIN_PORT
    return {
        "mqtt_host": unquote(parts.hostname),
        "mqtt_port": usual_port if port is None else port,
        "mqtt_tls": is_tls,
        "mqtt_backend_username": unquote(parts.username) if parts.username else None,
    }


def _split_url(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError:
        # from None: the foreign error repeats what may be a piece of a password
        raise ConfigError(
            "broker URL: the host is malformed, or the port is not a number", hint=_URL_FORM
        ) from None


def _explain(error: ErrorDetails, flags: dict[str, Any]) -> ConfigError:
    name = str(error["loc"][0])
    source = name if name in flags else name.upper()
    value = "" if name in _SECRET else f" {error['input']}" if name in flags else f"={error['input']}"
    return ConfigError(
        f"{source}{value}: {error['msg'][:1].lower()}{error['msg'][1:]}",
        hint=Settings.model_fields[name].description,
    )
