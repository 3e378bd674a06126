"""From connection flags and settings to a subscriber."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plantops_cli.cli.shared.stderr import say
from plantops_cli.config import Settings, load_settings, parse_url
from plantops_cli.errors import ConfigError
from plantops_cli.stream.options import MAX_PACKET_BYTES, ConnectOptions
from plantops_cli.stream.status import Connecting, Status, describe
from plantops_cli.stream.subscriber import MQTTSubscriber
from plantops_cli.stream.tls import TLSOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFlags:
    """The connection flags as they were given; None and False mean: not given."""

    url: str | None = None
    host: str | None = None
    port: int | None = None
    username: str | None = None
    secret_file: str | None = None
    ask_password: bool = False
    anonymous: bool = False
    client_id: str | None = None
    keepalive: int = 15
    mqtt_version: str = "auto"
    tls: bool | None = None
    cafile: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False
    websockets: str | None = None
    unix: str | None = None
    env_file: Path | None = None
    durable: str | None = None
    session_expiry: int | None = None
    group: str | None = None
    max_packet_size: int = MAX_PACKET_BYTES


def options(flags: ConnectionFlags, settings: Settings) -> ConnectOptions:
    """Say where the broker is, how to speak to it, and as whom.

    Args:
        flags: the connection flags.
        settings: what ``resolve`` made of them.

    Raises:
        ConfigError: flags or settings contradict each other, or leave the password out.
    """
    made = MQTTSubscriber.from_settings(
        settings,
        login=_login(flags, settings),
        insecure=flags.insecure,
        keepalive_seconds=flags.keepalive,
        mqtt_version=flags.mqtt_version,
        max_packet_bytes=flags.max_packet_size,
        websocket_path=flags.websockets,
        unix_socket=flags.unix,
    )
    return made.options


def subscriber(
    flags: ConnectionFlags, *, qos: int, on_status: Callable[[Status], None], is_login_ensured: bool = False
) -> MQTTSubscriber:
    """Build the subscriber that flags and settings describe.

    Args:
        flags: the connection flags.
        qos: the QoS to subscribe with.
        on_status: told about each step.
        is_login_ensured: whether to add the login to Mosquitto's password file first if it is not there.

    Raises:
        ConfigError: flags or settings are malformed, contradict each other, or leave the password out.
        BrokerFileError, ReloadError: the login could not be added.
    """
    if flags.durable is not None and qos == 0:
        raise ConfigError("--durable and --qos 0: a broker keeps nothing of QoS 0", hint="leave --qos out")
    settings = resolve(flags)
    login = _login(flags, settings)
    if is_login_ensured:
        _ensure(settings, login)
    return MQTTSubscriber.from_settings(
        settings,
        login=login,
        insecure=flags.insecure,
        keepalive_seconds=flags.keepalive,
        mqtt_version=flags.mqtt_version,
        qos=qos,
        durable=flags.durable,
        session_expiry_seconds=flags.session_expiry,
        group=flags.group,
        max_packet_bytes=flags.max_packet_size,
        websocket_path=flags.websockets,
        unix_socket=flags.unix,
        on_status=on_status,
    )


def resolve(flags: ConnectionFlags, **others: object) -> Settings:
    """Resolve the settings under the connection flags.

    Args:
        flags: the connection flags.
        others: values of other flags, by field; None means that the flag was not given.

    Raises:
        ConfigError: flags or settings are malformed or contradict each other.
    """
    settings = load_settings(env_file=flags.env_file, **others, **given_by(flags))
    _check_tls(flags, settings)
    return settings


def given_by(flags: ConnectionFlags) -> dict[str, object]:
    """Return the settings that the connection flags give, by field; None: not given.

    Args:
        flags: the connection flags.

    Raises:
        ConfigError: they say the same thing twice, or the URL is malformed.
    """
    given: dict[str, object] = {
        "mqtt_host": flags.host,
        "mqtt_port": flags.port,
        "mqtt_backend_username": flags.username,
        "mqtt_tls": flags.tls,
        "mqtt_cafile": flags.cafile,
        "mqtt_certfile": flags.cert,
        "mqtt_keyfile": flags.key,
        "mqtt_client_id": flags.client_id,
    }
    if flags.url is not None:
        located = {name: value for name, value in parse_url(flags.url).items() if value is not None}
        if any(given[name] is not None for name in located):
            raise ConfigError(
                "--url and --host, --port, --tls or --username say the same thing twice",
                hint="leave one of them out",
            )
        given |= located
    if flags.insecure and given["mqtt_tls"] is None:
        given["mqtt_tls"] = True
    return given


def address(flags: ConnectionFlags, settings: Settings) -> ConnectOptions:
    """Say where the broker is and how to speak to it, with no login.

    Args:
        flags: the connection flags.
        settings: what ``resolve`` made of them.

    Raises:
        ConfigError: a TLS file is missing or unusable.
    """
    tls = TLSOptions.from_settings(settings, insecure=flags.insecure)
    return ConnectOptions(host=settings.mqtt_host, port=settings.port, tls=tls)


def name_address(options: ConnectOptions, settings: Settings) -> None:
    """Say where a password is about to go, in a command that tells no steps, if a file had a say in it.

    Args:
        options: where that is.
        settings: what ``resolve`` made of the flags.
    """
    if settings.address_source is not None:
        say(describe(Connecting(options.endpoint, settings.address_source)))


def _ensure(settings: Settings, login: tuple[str | None, bytes | None]) -> None:
    from plantops_cli.mosquitto.startup import ensure_login

    username, password = login
    if username is None or password is None:
        raise ConfigError("--ensure-user was given together with --anonymous", hint="leave one of them out")
    ensure_login(settings, username=username, password=password)


def _check_tls(flags: ConnectionFlags, settings: Settings) -> None:
    if not settings.is_tls and (flags.cafile or flags.cert or flags.key or flags.insecure):
        raise ConfigError(
            "--cafile, --cert, --key and --insecure are for TLS, which is switched off",
            hint="use --tls or mqtts://, or leave them out",
        )


def _login(flags: ConnectionFlags, settings: Settings) -> tuple[str | None, bytes | None]:
    if flags.anonymous:
        if flags.username or flags.secret_file or flags.ask_password:
            raise ConfigError("--anonymous was given together with a login", hint="leave one of them out")
        return None, None
    password = settings.password(secret_file=flags.secret_file, ask=flags.ask_password)
    return settings.mqtt_backend_username, password
