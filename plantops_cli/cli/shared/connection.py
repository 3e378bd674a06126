"""From connection flags and settings to a subscriber."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from plantops_cli.addresses import is_url, parse_host, parse_url
from plantops_cli.cli.shared.flags.connect import BystanderConnectionFlags, ConnectionFlags
from plantops_cli.cli.shared.flags.subscribe import SessionFlags
from plantops_cli.cli.shared.hints import SETTINGS
from plantops_cli.cli.shared.stderr import say
from plantops_cli.config import Settings, load_settings
from plantops_cli.credentials import KeptPassword
from plantops_cli.errors import ConfigError
from plantops_cli.messages import check_qos
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.status import Connecting, Status, describe
from plantops_cli.stream.subscriber import MQTTSubscriber
from plantops_cli.stream.tls import TLSOptions

_Login = tuple[str | None, bytes | KeptPassword | None]


def options(flags: ConnectionFlags, settings: Settings) -> ConnectOptions:
    """Say where the broker is, how to speak to it, and as whom.

    Args:
        flags: the connection flags.
        settings: what ``resolve`` made of them.

    Raises:
        ConfigError: flags or settings contradict each other, or leave the password out.
    """
    used = _used(flags, settings)
    made = MQTTSubscriber.from_settings(used, login=_login(flags, settings), **flags.keywords)
    return made.options


def subscriber(
    flags: ConnectionFlags,
    session: SessionFlags = SessionFlags(),
    *,
    qos: int,
    on_status: Callable[[Status], None],
    is_login_ensured: bool = False,
) -> MQTTSubscriber:
    """Build the subscriber that flags and settings describe.

    Args:
        flags: the connection flags.
        session: what the broker is asked to keep.
        qos: the QoS to subscribe with.
        on_status: told about each step.
        is_login_ensured: whether to add the login to Mosquitto's password file first if it is not there.

    Raises:
        ConfigError: flags or settings are malformed, contradict each other, or leave the password out.
        BrokerFileError, ReloadError: the login could not be added.
    """
    settings = resolve(flags)
    login = _login(flags, settings)
    if is_login_ensured:
        _ensure(settings, login)
    used = _used(flags, settings)
    return MQTTSubscriber.from_settings(
        used, login=login, qos=check_qos(qos), on_status=on_status, **flags.keywords, **session.keywords
    )


def resolve(flags: ConnectionFlags, given: Mapping[str, object] | None = None, **others: object) -> Settings:
    """Resolve the settings under the connection flags.

    Args:
        flags: the connection flags.
        given: what ``given_by`` made of them, by who needs it too.
        others: values of other flags, by field; None means that the flag was not given.

    Raises:
        ConfigError: flags or settings are malformed or contradict each other.
    """
    settings = load_settings(env_file=flags.env_file, **others, **(given_by(flags) if given is None else given))
    _check_tls(flags, settings)
    return settings


def given_by(flags: ConnectionFlags) -> dict[str, object]:
    """Return the settings that the connection flags give, by field; None: not given.

    Args:
        flags: the connection flags.

    Raises:
        ConfigError: they say the same thing twice, or the URL is malformed.
    """
    given = flags.settings
    if flags.unix is not None and (flags.url, flags.host, flags.port) != (None, None, None):
        raise ConfigError(
            "--unix and --url, --host or --port name two places for one broker", hint="leave one of them out"
        )
    if flags.url is not None:
        located = parse_url(flags.url)
        if any(given.get(name) is not None for name in located):
            raise ConfigError(
                "--url and --host, --port, --tls or --username say the same thing twice",
                hint="leave one of them out",
            )
        given |= located
    elif flags.host is not None:
        given |= _located_by(flags.host, given)
    if given.get("websocket_path") and flags.websockets not in (None, given["websocket_path"]):
        raise ConfigError("--websockets and the path of the URL contradict each other", hint="leave one out")
    if flags.insecure and given["mqtt_tls"] is None:
        given["mqtt_tls"] = True
    return given


def _located_by(host: str, given: Mapping[str, object]) -> dict[str, object]:
    """What ``--host`` says, which may be more than a name: with a port, or a URL."""
    located = parse_host(host, name="--host")
    for name in located.keys() - {"mqtt_host"}:
        if given.get(name) not in (None, located[name]):
            raise ConfigError(f"--host and {SETTINGS[name]} contradict each other", hint="leave one of them out")
    return located


def without_url(filters: tuple[str, ...], flags: ConnectionFlags) -> tuple[tuple[str, ...], ConnectionFlags]:
    """Take a URL for what it is, the broker, where it stands among topic filters.

    Args:
        filters: the topic filters that were given.
        flags: the connection flags.

    Returns:
        The other filters, and the flags with the URL.

    Raises:
        ConfigError: the broker is given by a flag too, or by two URLs.
    """
    urls = tuple(filter(is_url, filters))
    if not urls:
        return filters, flags
    if len(urls) > 1 or flags.url is not None or flags.host is not None:
        raise ConfigError(
            "a URL stands among the topic filters, and the broker is given twice", hint="give it once, as -L URL"
        )
    return tuple(one for one in filters if one not in urls), replace(flags, url=urls[0])


def address(flags: ConnectionFlags, settings: Settings) -> ConnectOptions:
    """Say where the broker is and how to speak to it, with no login.

    Args:
        flags: the connection flags.
        settings: what ``resolve`` made of them.

    Raises:
        ConfigError: a TLS file is missing or unusable.
    """
    tls = TLSOptions.from_settings(settings, insecure=flags.insecure)
    return ConnectOptions(
        host=settings.mqtt_host,
        port=settings.port,
        tls=tls,
        timeout_seconds=flags.connect_timeout,
        websocket_path=settings.websocket_path,
    )


def name_address(options: ConnectOptions, settings: Settings) -> None:
    """Say where a password is about to go, in a command that tells no steps, if a file had a say in it.

    Args:
        options: where that is.
        settings: what ``resolve`` made of the flags.
    """
    if settings.address_source is not None:
        say(describe(Connecting(options.endpoint, settings.address_source)))


def _ensure(settings: Settings, login: _Login) -> None:
    from plantops_cli.mosquitto.startup import ensure_login

    username, password = login
    if username is None or password is None:
        other = "--anonymous" if username is None else "--no-password"
        raise ConfigError(f"--ensure-user was given together with {other}", hint="leave one of them out")
    fixed = password if isinstance(password, bytes) else password()
    ensure_login(settings, username=username, password=fixed)


def _used(flags: ConnectionFlags, settings: Settings) -> Settings:
    is_beside = isinstance(flags, BystanderConnectionFlags) and flags.client_id is None
    return settings.without_client_id() if is_beside else settings


def _check_tls(flags: ConnectionFlags, settings: Settings) -> None:
    if not settings.is_tls and (flags.cafile or flags.cert or flags.key or flags.insecure):
        raise ConfigError(
            "--cafile, --cert, --key and --insecure are for TLS, which is switched off",
            hint="use --tls or mqtts://, or leave them out",
        )


def _login(flags: ConnectionFlags, settings: Settings) -> _Login:
    if flags.anonymous:
        if flags.username or flags.secret_file or flags.ask_password or flags.no_password:
            raise ConfigError("--anonymous was given together with a login", hint="leave one of them out")
        return None, None
    if flags.no_password:
        if flags.secret_file or flags.ask_password:
            raise ConfigError("--no-password was given together with a password", hint="leave one of them out")
        return settings.mqtt_backend_username, None
    password = settings.kept_password(secret_file=flags.secret_file, ask=flags.ask_password)
    return settings.mqtt_backend_username, password
