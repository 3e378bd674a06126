"""mosquitto.conf as text: its options, and what they make of the broker.

Pure: bytes in, values out; paths are plain text, as the broker sees them. The rules are those of Mosquitto 2.0
and 2.1 (``config__read_file_core`` in ``conf.c``). Options that nothing here needs are passed over, for a newer
broker may know them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.text.lines import split_lines

DEFAULT_PORT = 1883
DEFAULT_USER = "mosquitto"

FileKind = Literal["password", "acl", "psk", "cafile", "capath", "certfile", "keyfile", "crlfile"]

_NUMBER = re.compile(r"\s*([+-]?[0-9]+)")
_BLANKS = " \t\n\v\f\r"  # isspace() of the C locale
_BOOLS = {"true": True, "1": True, "false": False, "0": False}
_UNSPECIFIED = {None: "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound
_LOOPBACK = re.compile(r"localhost|127\.[0-9.]+|::1")

_DYNSEC = "mosquitto_dynamic_security"
_FILE_PLUGINS: tuple[tuple[str, str, FileKind], ...] = (
    ("mosquitto_password_file", "password_file", "password"),
    ("mosquitto_acl_file", "acl_file", "acl"),
)
_KNOWN_PLUGINS = (_DYNSEC, "mosquitto_persist_sqlite", *(name for name, _, _ in _FILE_PLUGINS))

_LISTENER_FILES: tuple[FileKind, ...] = ("cafile", "capath", "certfile", "keyfile", "crlfile")
_SECURITY_FILES: tuple[tuple[str, FileKind], ...] = (
    ("password_file", "password"),
    ("acl_file", "acl"),
    ("psk_file", "psk"),
)
_SECURITY_OPTIONS = {"allow_anonymous", "acl_file", "password_file", "psk_file"}
_LISTENER_OPTIONS = {
    *_LISTENER_FILES,
    "ciphers",
    "max_connections",
    "max_qos",
    "mount_point",
    "protocol",
    "psk_hint",
    "require_certificate",
    "socket_domain",
    "tls_keyform",
    "tls_version",
    "use_identity_as_username",
    "use_subject_as_username",
    "use_username_as_clientid",
}
_DEFAULT_LISTENER_OPTIONS = {"bind_address", "port"}
_GLOBAL_OPTIONS = {"pid_file", "user"}
# these alone do not open the default listener (seen on 2.0.11)
_QUIET_OPTIONS = {"allow_anonymous", "acl_file"}
_PLUGIN_OPTIONS = re.compile(r"(?:plugin|auth)_opt_(.+)")


class Directive(NamedTuple):
    """One option as it is written.

    Attributes:
        name: the option.
        value: what follows it; may be a secret (``remote_password``), hence absent from the repr.
        file: the file that it stands in.
        line: its number there, from 1.
    """

    name: str
    value: str
    file: str
    line: int

    def __repr__(self) -> str:
        return f"Directive({self.name!r}, {self.file!r}, {self.line})"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin and its options (``plugin_opt_NAME``, ``auth_opt_NAME``), which may be secrets.

    Attributes:
        path: the shared object.
        options: value of each option, by NAME.
        directive: where it is loaded.
    """

    path: str
    options: Mapping[str, str] = field(repr=False)
    directive: Directive

    def is_called(self, name: str) -> bool:
        """Tell whether this is the plugin that Mosquitto ships under a name, wherever it lies."""
        return self.path.rpartition("/")[2].partition(".")[0] == name


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A socket that the broker listens on, with the settings that count there.

    Attributes:
        port: 0 for a Unix socket.
        address: what it is bound to; None for every address.
        unix_socket: the path of a Unix socket.
        protocol: ``mqtt`` or ``websockets``; a newer broker may know others.
        is_tls: whether it speaks TLS, by certificate or by pre-shared key.
        requires_certificate: whether a client must show a certificate.
        takes_name_from_certificate: whether the certificate (or the identity of the pre-shared key) is the
            login, so that the broker looks at no password (``use_identity_as_username``,
            ``use_subject_as_username``).
        allow_anonymous: whether clients without a user name may connect.
        password_file: the file of user names that counts here, or None.
        acl_file: the file of rights that counts here, or None.
        psk_file: the file of pre-shared keys that counts here, or None.
        plugins: the plugins asked here.
        cafile, capath, certfile, keyfile, crlfile: files of its TLS.
        psk_hint: the hint of a listener with pre-shared keys.
        directive: where it is opened; None for the listener that needs no line.
    """

    port: int
    address: str | None = None
    unix_socket: str | None = None
    protocol: str = "mqtt"
    is_tls: bool = False
    requires_certificate: bool = False
    takes_name_from_certificate: bool = False
    allow_anonymous: bool = False
    password_file: str | None = None
    acl_file: str | None = None
    psk_file: str | None = None
    plugins: tuple[Plugin, ...] = ()
    cafile: str | None = None
    capath: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    crlfile: str | None = None
    psk_hint: str | None = None
    directive: Directive | None = None

    @property
    def host(self) -> str | None:
        """Where a client on the broker's machine finds it; None for a Unix socket."""
        return None if self.unix_socket is not None else _UNSPECIFIED.get(self.address, self.address)

    @property
    def endpoint(self) -> str:
        """``host:port``, or the path of the Unix socket."""
        host = self.host
        if host is None:
            return self.unix_socket or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def why_no_login(self) -> str | None:
        """Why no login by password can be tried here, or None."""
        if self.protocol != "mqtt":
            return f"{self.endpoint} speaks {self.protocol}"
        if self.takes_name_from_certificate:
            return f"{self.endpoint} takes the user name from the certificate and looks at no password"
        if self.psk_hint is not None:
            return f"{self.endpoint} speaks TLS by pre-shared key"
        return None


class ReloadFile(NamedTuple):
    """A file that the broker reads again when it is told to reload.

    Attributes:
        path: as the broker sees it.
        kind: what it is to the broker.
        directive: the option that names it.
    """

    path: str
    kind: FileKind
    directive: Directive


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """What a configuration makes of the broker.

    Attributes:
        file: the configuration, as it was given.
        files: it and those that it includes.
        directives: every option of them, in the order in which the broker reads them.
        user: whom the broker becomes when root starts it.
        pid_file: where it writes its process id, or None.
        per_listener_settings: whether files and plugins are a listener's own.
        listeners: at least one: without any, the broker opens 1883 on the loopback.
        reload_files: all that it reads again at a reload, without the configuration.
    """

    file: str
    files: tuple[str, ...]
    directives: tuple[Directive, ...] = field(repr=False)
    user: str
    pid_file: str | None
    per_listener_settings: bool
    listeners: tuple[Listener, ...]
    reload_files: tuple[ReloadFile, ...]

    @property
    def allow_anonymous(self) -> bool:
        """Whether any listener lets clients in without a user name."""
        return any(listener.allow_anonymous for listener in self.listeners)

    @property
    def password_files(self) -> tuple[str, ...]:
        """The password files of all listeners, the 2.1 plugin's among them."""
        return self._paths("password")

    @property
    def acl_files(self) -> tuple[str, ...]:
        """The ACL files of all listeners, the 2.1 plugin's among them."""
        return self._paths("acl")

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """The plugins of all listeners, each once."""
        found = {plugin.directive: plugin for listener in self.listeners for plugin in listener.plugins}
        return tuple(found.values())

    @property
    def dynsec_file(self) -> str | None:
        """The file of the dynamic security plugin, or None without the plugin."""
        plugin = next((plugin for plugin in self.plugins if plugin.is_called(_DYNSEC)), None)
        return plugin.options.get("config_file") if plugin else None

    @property
    def has_dynsec(self) -> bool:
        """Whether the dynamic security plugin is loaded."""
        return any(plugin.is_called(_DYNSEC) for plugin in self.plugins)

    @property
    def unknown_plugins(self) -> tuple[Plugin, ...]:
        """Plugins that may decide about logins by rules that are not known here."""
        return tuple(
            plugin for plugin in self.plugins if not any(plugin.is_called(name) for name in _KNOWN_PLUGINS)
        )

    @property
    def login_listeners(self) -> tuple[Listener, ...]:
        """The listeners where a login by password can be tried: the plain loopback first, TLS last."""
        return tuple(sorted((item for item in self.listeners if item.why_no_login is None), key=_distance))

    def _paths(self, kind: FileKind) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item.path for item in self.reload_files if item.kind == kind))


@dataclass(slots=True)
class _PluginDraft:
    path: str
    directive: Directive
    options: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Scope:
    """Where options gather: the broker as a whole, or one listener."""

    opened_by: Directive | None = None
    options: dict[str, Directive] = field(default_factory=dict)
    plugins: list[_PluginDraft] = field(default_factory=list)


@dataclass(slots=True)
class _Draft:
    """The state of a reading, as the broker keeps it."""

    everywhere: _Scope = field(default_factory=_Scope)
    default: _Scope = field(default_factory=_Scope)
    listeners: list[_Scope] = field(default_factory=list)
    per_listener: bool = False
    # an included file begins with the default listener again, and leaves that of its includer alone
    current: dict[str, _Scope] = field(default_factory=dict)
    current_plugin: dict[str, _PluginDraft] = field(default_factory=dict)
    named_plugins: dict[str, _PluginDraft] = field(default_factory=dict)


def parse_directives(content: bytes, file: str) -> list[Directive]:
    """Split a configuration file into its options.

    Args:
        content: the whole file; bytes that are not UTF-8 become surrogates (PEP 383).
        file: its name, for messages.

    Raises:
        BrokerFileError: it contains NUL, after which brokers do not agree on what they read.
    """
    return [
        directive
        for number, line in enumerate(split_lines(content), start=1)
        if (directive := _parse_line(line, file, number)) is not None
    ]


def interpret(file: str, directives: Iterable[Directive], *, files: Sequence[str] = ()) -> BrokerConfig:
    """Say what the options make of the broker.

    Args:
        file: the configuration, as it was given.
        directives: its options and those of the files that it includes, in the order of reading.
        files: the configuration and those files, in that order.

    Raises:
        BrokerFileError: an option has a value that the broker does not take.
    """
    directives = tuple(directives)
    draft = _Draft()
    for directive in directives:
        _apply(draft, directive)
    listeners = tuple(_listener(draft, scope) for scope in _open_scopes(draft))
    options = draft.everywhere.options
    return BrokerConfig(
        file=file,
        files=tuple(files) or (file,),
        directives=directives,
        user=_text(options, "user") or DEFAULT_USER,
        pid_file=_text(options, "pid_file"),
        per_listener_settings=draft.per_listener,
        listeners=listeners,
        reload_files=tuple(dict.fromkeys(_reload_files(draft))),
    )


def included_names(names: Iterable[bytes]) -> list[bytes]:
    """Return those of a folder's file names that ``include_dir`` reads, in the order of the broker.

    Byte by byte: first as if all were capitals, then capitals before small letters (``scmp_p`` in
    ``conf_includedir.c``).

    Args:
        names: the names in the folder.
    """
    wanted = [name for name in names if name.endswith(b".conf") and name != b".conf"]
    return sorted(wanted, key=lambda name: [(byte - 32 if 97 <= byte <= 122 else byte, byte) for byte in name])


def _parse_line(line: bytes, file: str, number: int) -> Directive | None:
    if b"\0" in line:
        raise BrokerFileError(f"{file!r}, line {number}: contains NUL", hint="is it a configuration file?")
    text = line.rstrip(b"\r\n").decode(errors="surrogateescape")
    if text.startswith("#"):
        return None
    name, _, rest = text.lstrip(" ").partition(" ")
    if not name:
        return None
    # the broker takes blanks around the name of an include_dir for a part of it
    return Directive(name, rest if name == "include_dir" else rest.strip(_BLANKS), file, number)


def _apply(draft: _Draft, directive: Directive) -> None:
    name = directive.name
    scope = draft.current.setdefault(directive.file, draft.default)
    if name == "listener":
        _parse_endpoint(directive)
        scope = _Scope(directive)
        draft.listeners.append(scope)
        draft.current[directive.file] = scope
    elif name == "per_listener_settings":
        draft.per_listener = _parse_bool(directive)
    elif name in _GLOBAL_OPTIONS:
        draft.everywhere.options[name] = directive
    elif name in _DEFAULT_LISTENER_OPTIONS:
        draft.default.options[name] = directive
    elif name in _LISTENER_OPTIONS or name == "listener_allow_anonymous":
        scope.options[name] = directive
    elif name in _SECURITY_OPTIONS:
        (scope if draft.per_listener else draft.everywhere).options[name] = directive
    elif name in ("plugin", "auth_plugin", "global_plugin", "plugin_load", "plugin_use"):
        _apply_plugin(draft, directive, scope)
    elif option := _PLUGIN_OPTIONS.fullmatch(name):
        _apply_plugin_option(draft, directive, option[1])


def _apply_plugin(draft: _Draft, directive: Directive, scope: _Scope) -> None:
    value = _required(directive)
    if directive.name == "plugin_load":
        name, _, path = value.partition(" ")
        plugin = _PluginDraft(path.strip(_BLANKS), directive)
        draft.named_plugins[name] = plugin
    elif directive.name == "plugin_use":
        if value not in draft.named_plugins:
            raise _malformed(directive, "names a plugin that no plugin_load did before")
        plugin = draft.named_plugins[value]
        scope.plugins.append(plugin)
    else:
        plugin = _PluginDraft(value, directive)
        is_own = draft.per_listener and directive.name != "global_plugin"
        (scope if is_own else draft.everywhere).plugins.append(plugin)
    draft.current_plugin[directive.file] = plugin


def _apply_plugin_option(draft: _Draft, directive: Directive, name: str) -> None:
    plugin = draft.current_plugin.get(directive.file)
    if plugin is None:
        raise _malformed(directive, "stands before any plugin")
    plugin.options[name] = directive.value


def _open_scopes(draft: _Draft) -> Iterator[_Scope]:
    yield from draft.listeners
    if not draft.listeners or set(draft.default.options) - _QUIET_OPTIONS or draft.default.plugins:
        yield draft.default


def _is_local_only(draft: _Draft) -> bool:
    # without a word on where to listen, 2.0 opens the loopback alone (listeners__start_local_only in mosquitto.c)
    return not draft.listeners and not set(draft.default.options) & _DEFAULT_LISTENER_OPTIONS


def _listener(draft: _Draft, scope: _Scope) -> Listener:
    port, address, unix_socket = _endpoint(draft, scope)
    own, security = scope.options, (scope if draft.per_listener else draft.everywhere).options
    # global_plugin (2.1) is everybody's even where all else is a listener's own
    plugins = [*draft.everywhere.plugins, *scope.plugins]
    has_certificate = _text(own, "certfile") is not None and _text(own, "keyfile") is not None
    psk_hint = _text(own, "psk_hint")
    return Listener(
        port=port,
        address=address,
        unix_socket=unix_socket,
        protocol=_text(own, "protocol") or "mqtt",
        is_tls=has_certificate or psk_hint is not None,
        requires_certificate=_flag(own, "require_certificate"),
        takes_name_from_certificate=(has_certificate or psk_hint is not None)
        and (_flag(own, "use_identity_as_username") or _flag(own, "use_subject_as_username")),
        allow_anonymous=_allows_anonymous(draft, own, security),
        password_file=_text(security, "password_file"),
        acl_file=_text(security, "acl_file"),
        psk_file=_text(security, "psk_file"),
        plugins=tuple(_finished(plugin) for plugin in plugins),
        cafile=_text(own, "cafile"),
        capath=_text(own, "capath"),
        certfile=_text(own, "certfile"),
        keyfile=_text(own, "keyfile"),
        crlfile=_text(own, "crlfile"),
        psk_hint=psk_hint,
        directive=scope.opened_by,
    )


def _endpoint(draft: _Draft, scope: _Scope) -> tuple[int, str | None, str | None]:
    if scope.opened_by is not None:
        return _parse_endpoint(scope.opened_by)
    port = scope.options.get("port")
    number = DEFAULT_PORT if port is None else _parse_port(port, least=1)
    return number, "127.0.0.1" if _is_local_only(draft) else _text(scope.options, "bind_address"), None


def _parse_endpoint(directive: Directive) -> tuple[int, str | None, str | None]:
    port = _parse_port(directive, least=0)
    where = [word for word in directive.value.split(" ")[1:] if word]
    address = where[0] if where and not where[0].startswith("#") else None
    if port == 0 and address is None:
        raise _malformed(directive, "has neither a port nor the path of a Unix socket")
    return (port, address, None) if port else (port, None, address)


def _allows_anonymous(draft: _Draft, own: Mapping[str, Directive], security: Mapping[str, Directive]) -> bool:
    # not said, it is allowed only where nobody from elsewhere can come
    said = own.get("listener_allow_anonymous") or security.get("allow_anonymous")
    return _is_local_only(draft) if said is None else _parse_bool(said)


def _reload_files(draft: _Draft) -> Iterator[ReloadFile]:
    scopes = list(_open_scopes(draft))
    for scope in scopes if draft.per_listener else [draft.everywhere]:
        for name, kind in _SECURITY_FILES:
            yield from _named_file(scope.options, name, kind)
    for scope in [draft.everywhere, *scopes]:
        for plugin in scope.plugins:
            yield from _plugin_files(_finished(plugin))
    for scope in scopes:
        for kind in _LISTENER_FILES:
            # the key of an engine has a name of the engine's, such as a pkcs11: URI
            if kind != "keyfile" or _text(scope.options, "tls_keyform") != "engine":
                yield from _named_file(scope.options, kind, kind)


def _named_file(options: Mapping[str, Directive], name: str, kind: FileKind) -> Iterator[ReloadFile]:
    if name in options:
        yield ReloadFile(_required(options[name]), kind, options[name])


def _finished(plugin: _PluginDraft) -> Plugin:
    return Plugin(plugin.path, MappingProxyType(plugin.options), plugin.directive)


def _plugin_files(plugin: Plugin) -> Iterator[ReloadFile]:
    for name, option, kind in _FILE_PLUGINS:
        if plugin.is_called(name) and option in plugin.options:
            yield ReloadFile(plugin.options[option], kind, plugin.directive)


def _distance(listener: Listener) -> tuple[bool, bool, bool, bool]:
    """Sort key: what a client on the broker's machine should try first is least."""
    is_remote = listener.host is not None and not _LOOPBACK.fullmatch(listener.host)
    return listener.is_tls, listener.requires_certificate, is_remote, listener.unix_socket is not None


def _text(options: Mapping[str, Directive], name: str) -> str | None:
    return _required(options[name]) if name in options else None


def _flag(options: Mapping[str, Directive], name: str) -> bool:
    return name in options and _parse_bool(options[name])


def _required(directive: Directive) -> str:
    if not directive.value:
        raise _malformed(directive, "has no value")
    return directive.value


def _parse_bool(directive: Directive) -> bool:
    word = _required(directive).split(" ")[0]
    if word not in _BOOLS:
        raise _malformed(directive, f"is {word[:80]!a}, not true or false")
    return _BOOLS[word]


def _parse_port(directive: Directive, *, least: int) -> int:
    # as atoi reads it, which stops at the first character that is no digit
    found = _NUMBER.match(directive.value)
    port = int(found[1]) if found and len(found[1]) < 10 else -1
    if not least <= port <= 65_535:
        raise _malformed(directive, f"has no port from {least} to 65535")
    return port


def _malformed(directive: Directive, reason: str) -> BrokerFileError:
    return BrokerFileError(f"{directive.file!r}, line {directive.line}: {directive.name} {reason}")
