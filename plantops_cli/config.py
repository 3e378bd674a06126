"""Settings: the one place where arguments, environment and ``.env`` meet, in this order of precedence.

The only importer of pydantic_settings.
"""

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PrivateAttr, SecretBytes, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from plantops_cli.addresses import PLAIN_PORT, TLS_PORT, parse_host, parse_url, shown_value
from plantops_cli.credentials import KeptPassword, choose_password, read_secret_file
from plantops_cli.envfile import ADDRESS, PASSWORDS, SECRET_FILES, find_env_file, read_env_file, take
from plantops_cli.errors import ConfigError, shown_username

_logger = logging.getLogger("plantops.config")

DEFAULT_USERNAME = "plantops_backend"

_STDIN = "-"
# what names a secret file may be the secret itself by mistake
_SECRET = {*PASSWORDS, *SECRET_FILES, "mqtt_url"}
_PREFIX = "mqtt_"
# a letter too many or too few, but not another word
_NEAR = 0.75
# what other programs call theirs, and what Kubernetes sets for Services called mqtt, mqtt-admin ...
_OF_OTHERS = re.compile(r"password|(.*_)?(service_(host|port)(_.*)?|port(_[0-9]+_.*)?)")
_FROM_URL = frozenset({"mqtt_host", "mqtt_port", "mqtt_tls"})
# Kubernetes sets MQTT_PORT so in every container beside a Service called mqtt, as links of Docker did
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)
_TRUE, _FALSE = ("true", "1", "yes", "on", "y", "t"), ("false", "0", "no", "off", "n", "f")

Port = Annotated[int, Field(ge=1, le=65_535)]


def _in_bytes(password: object) -> object:
    if isinstance(password, SecretStr):
        password = password.get_secret_value()
    return password.encode(errors="surrogateescape") if isinstance(password, str) else password


# what MQTT carries; text would have to be UTF-8, and surrogateescape gives back the bytes that are not
_IN_BYTES = BeforeValidator(_in_bytes)


class Settings(BaseSettings):
    """What plantops needs to know of its surroundings; each field is the environment variable of its name."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    mqtt_url: str | None = Field(
        None,
        description="the broker as `mqtt://[USER@]HOST[:PORT]`, `mqtts://...`, `ws://HOST/PATH` or `wss://...`, "
        "instead of the next two and `MQTT_TLS`",
    )
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
    _resolve_anew: "Callable[[], Settings] | None" = PrivateAttr(None)
    """Reads environment and file again."""

    _websocket_path: str | None = PrivateAttr(None)
    _link: str | None = PrivateAttr(None)
    """What ``MQTT_PORT`` is when nobody here has set it, and nobody else the port."""

    @property
    def websocket_path(self) -> str | None:
        """The path of the broker's WebSocket, if a URL says that it speaks through one."""
        return self._websocket_path

    @property
    def is_tls(self) -> bool:
        """Whether to speak TLS: as told, else when the port or a certificate file says so."""
        if self.mqtt_tls is not None:
            return self.mqtt_tls
        return self.mqtt_port == TLS_PORT or bool(self.mqtt_cafile or self.mqtt_certfile or self.mqtt_keyfile)

    @property
    def port(self) -> int:
        """The broker's port, the usual one when none is set.

        Raises:
            ConfigError: ``MQTT_PORT`` is none, but a Service's that Kubernetes has put there.
        """
        if self._link is not None:
            shown = shown_value(self._link)
            raise ConfigError(
                f"MQTT_PORT={shown}: no port number; Kubernetes sets this for a Service called mqtt",
                hint="set MQTT_PORT to a number or set MQTT_URL, or give the pod enableServiceLinks: false",
            )
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
        return "mqtt_host" in self.model_fields_set or self.mqtt_port is not None

    @property
    def address_source(self) -> str | None:
        """What a ``.env``, or the file named instead, says of where a password goes; None when it says nothing."""
        names = [name for name in ADDRESS if name in self._by_file]
        if "mqtt_url" in names:
            names = ["mqtt_url"]
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

    def kept_password(self, *, secret_file: str | None = None, ask: bool = False) -> bytes | KeptPassword:
        """Return the password of the login, as ``password`` does, and if it stands in a file what reads that anew.

        Raises:
            ConfigError: as there.
        """
        password = self.password(secret_file=secret_file, ask=ask)
        if ask or secret_file == _STDIN:
            return password
        path = self.mqtt_backend_password_file if secret_file is None else Path(secret_file)
        if path is not None:
            return KeptPassword(password, partial(read_secret_file, path))
        is_in_file = "mqtt_backend_password" in self._by_file
        return KeptPassword(password, self._password_anew) if is_in_file else password

    def _password_anew(self) -> bytes:
        """Read the file of settings again for its password, which is for that broker and that user alone."""
        assert self._resolve_anew is not None
        settings = self._resolve_anew()
        for name in (*ADDRESS, "mqtt_backend_username"):
            if getattr(settings, name) != getattr(self, name):
                raise ConfigError(
                    f"the password of {self._by_file['mqtt_backend_password']} is not read anew: "
                    f"{name.upper()} has changed too",
                    hint="what is connected keeps to the old one: start it anew",
                )
        return settings.password()


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
    given = _spread({name: value for name, value in flags.items() if value is not None}, str)
    environment = {name: value for name, value in _environment().items() if name not in given}
    _warn_of_near_misses((name for name, value in os.environ.items() if value), "in the environment")
    link = environment.pop("mqtt_port") if _is_link(environment.get("mqtt_port")) else None
    if given.keys() >= _FROM_URL:
        environment.pop("mqtt_url", None)
    environment = _spread(environment, str.upper)
    higher = environment | given
    file = find_env_file() if env_file is None else read_env_file(Path(env_file))
    of_file: dict[str, Any] = {}
    if file is not None:
        is_located = higher.keys() >= _FROM_URL
        chosen = take(file, Settings.model_fields.keys() - higher.keys() - ({"mqtt_url"} if is_located else set()))
        for warning in chosen.warnings:
            _logger.warning("%s", warning)
        _warn_of_near_misses(file.values, f"in {file.path}")
        of_file = _spread(chosen.values, lambda name: f"{name.upper()} of {file.path}")
    decided = of_file | higher
    websocket_path = decided.pop("websocket_path", None)
    if link is not None:
        # or pydantic would look for it in the environment
        decided.setdefault("mqtt_port", None)
    try:
        settings = Settings(**decided)
    except ValidationError as exc:
        raise _explain(exc.errors()[0], given) from None  # the foreign error repeats the value, secret or not
    settings._websocket_path = websocket_path or None  # noqa: SLF001  # made here
    settings._link = link if decided.get("mqtt_port") is None else None  # noqa: SLF001  # made here
    if file is not None:
        settings._by_file.update(dict.fromkeys(of_file.keys() - higher.keys(), file.path))  # noqa: SLF001  # made here
        settings._resolve_anew = partial(load_settings, env_file=env_file, **flags)  # noqa: SLF001  # made here
    return settings


def _warn_of_near_misses(names: Iterable[str], where: str) -> None:
    """Warn, once, of names that nobody reads and that are almost those of settings."""
    from difflib import get_close_matches

    ours = [field.removeprefix(_PREFIX) for field in Settings.model_fields]
    for name in sorted(names):
        rest = name.lower().removeprefix(_PREFIX)
        if rest == name.lower() or rest in ours or _OF_OTHERS.fullmatch(rest):
            continue
        if near := [one for one in ours if _is_slip(rest, one)] or get_close_matches(rest, ours, 1, _NEAR):
            _warn_once(
                f"{name.upper()} {where} is no setting of plantops: is {(_PREFIX + near[0]).upper()} meant?"
            )


def _is_slip(name: str, ours: str) -> bool:
    """Whether two names differ in one letter, or in the order of their letters."""
    if len(name) != len(ours):
        return False
    return sorted(name) == sorted(ours) or sum(map(str.__ne__, name, ours)) == 1


@cache
def _warn_once(text: str) -> None:
    _logger.warning("%s", text)


def _environment() -> dict[str, Any]:
    """What the environment sets; of passwords the very bytes, whatever the locale makes of them as text."""
    found = {name.lower(): value for name, value in os.environ.items() if value}
    return {
        name: os.fsencode(found[name]) if name in PASSWORDS else found[name]
        for name in Settings.model_fields
        if name in found
    }


def _is_link(port: object) -> bool:
    return isinstance(port, str) and _SERVICE_LINK.match(port) is not None


def _spread(values: Mapping[str, Any], say: Callable[[str], str]) -> dict[str, Any]:
    """Take apart what says several things at once: a URL, or a host with its port.

    Args:
        values: settings by field, all of one rank.
        say: what to call a field in an error.

    Raises:
        ConfigError: one of them is malformed, or another setting says something else.
    """
    found = dict(values)
    for name, parse in (("mqtt_host", parse_host), ("mqtt_url", parse_url)):
        text = values.get(name)
        if not isinstance(text, str):
            continue
        parts = parse(text, name=say(name))
        for part, value in parts.items():
            if part != name and part in found and not _is_same(found[part], value):
                # a path, which is no setting, can only be that of a host that is a URL
                other = say(part if part in Settings.model_fields else "mqtt_host")
                raise ConfigError(f"{say(name)} and {other} contradict each other", hint="leave one of them out")
        found |= parts
    return found


def _is_same(one: object, other: object) -> bool:
    word = str(one).strip().lower()
    return word in (_TRUE if other else _FALSE) if isinstance(other, bool) else word == str(other).lower()


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
        elif name not in settings.model_fields_set or getattr(settings, name) is None:
            found[name] = "default"
        else:
            file = settings._by_file.get(name)  # noqa: SLF001  # of the class above
            found[name] = "environment" if file is None else str(file)
    return found


def _explain(error: ErrorDetails, flags: dict[str, Any]) -> ConfigError:
    name = str(error["loc"][0])
    source = name if name in flags else name.upper()
    value = "" if name in _SECRET else f"{' ' if name in flags else '='}{shown_value(str(error['input']))}"
    return ConfigError(
        f"{source}{value}: {error['msg'][:1].lower()}{error['msg'][1:]}",
        hint=Settings.model_fields[name].description,
    )
