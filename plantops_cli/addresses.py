"""Where a broker is, as people write it: a URL, a host, or a host with its port. Pure: text in, settings out."""

import ipaddress
import re
from urllib.parse import SplitResult, unquote, urlsplit

from plantops_cli.errors import ConfigError

PLAIN_PORT = 1883
TLS_PORT = 8883

_SCHEMES = {"mqtt": False, "mqtts": True, "ws": False, "wss": True}
# of WebSocket those of HTTP (RFC 6455, 3)
_PORTS = {"mqtt": PLAIN_PORT, "mqtts": TLS_PORT, "ws": 80, "wss": 443}
# of other schemes too: what begins so is meant as one, and refused as one
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_LOGIN = re.compile(r"[^/@:\s]+:[^/@\s]*@")
_PERHAPS_LOGIN = re.compile(r":.*@", re.DOTALL)
_HOST_AND_PORT = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*):(?P<port>[0-9]{1,5})")
_LAST_PORT = 65_535
_URL_FORM = "mqtt://HOST:PORT, or mqtts://HOST:PORT"
_HOST_FORM = "HOST or HOST:PORT, an IPv6 address with a port as [ADDRESS]:PORT"


def is_url(text: str) -> bool:
    """Tell whether a text begins as a URL does, whatever its scheme and whatever follows.

    Args:
        text: what was given, perhaps as something else; also a login and a host, for it holds a password.
    """
    return bool(_SCHEME.match(text) or _LOGIN.match(text))


def shown_value(text: str) -> str:
    """Return what to show of a value that is no good: nothing where it may be a URL with a password by mistake.

    Args:
        text: what was given, for something else than a URL.
    """
    return "(with a login in it)" if _PERHAPS_LOGIN.search(text) else text


def parse_url(url: str, *, name: str = "broker URL") -> dict[str, object]:
    """Take ``mqtt://[USER@]HOST[:PORT]``, ``ws://HOST/PATH``, or one of both with TLS, apart into settings.

    Args:
        url: the URL; what is percent-encoded in it is decoded, and a port that is not in it is the usual one.
        name: what to call it in an error.

    Returns:
        What it says, by field of ``Settings``, and the ``websocket_path``: of ``ws`` and ``wss`` by default ``/``
        (RFC 6455, 3), of the others empty, which is a word against any other.

    Raises:
        ConfigError: another scheme, no host, a bad port, a password or what may not follow the port; the URL
            is not repeated.
    """
    parts, port = _split_url(url, name)
    if parts.scheme not in _SCHEMES:
        raise ConfigError(f"{name}: the scheme is neither mqtt nor mqtts, ws nor wss", hint=_URL_FORM)
    if parts.password is not None:
        raise ConfigError(
            f"{name} holds a password, which every user of this machine could read",
            hint="take it out; set MQTT_BACKEND_PASSWORD",
        )
    if not parts.hostname:
        raise ConfigError(f"{name}: no host", hint=_URL_FORM)
    is_websocket = parts.scheme.startswith("ws")
    if parts.query or parts.fragment or (parts.path.strip("/") and not is_websocket):
        where = "path" if is_websocket else "port"
        raise ConfigError(f"{name}: nothing may follow the {where}", hint="give topic filters as arguments")
    located: dict[str, object] = {
        "mqtt_host": unquote(parts.hostname),
        "mqtt_port": _PORTS[parts.scheme] if port is None else port,
        "mqtt_tls": _SCHEMES[parts.scheme],
        "websocket_path": (parts.path or "/") if is_websocket else "",
    }
    return located | ({"mqtt_backend_username": unquote(parts.username)} if parts.username else {})


def parse_host(host: str, *, name: str = "host") -> dict[str, object]:
    """Take what was given for a host apart into settings: it may have brackets, a port, or be a whole URL.

    Args:
        host: the name or the address, as it was typed.
        name: what to call it in an error.

    Returns:
        As ``parse_url``; only ``mqtt_host`` where nothing else is said.

    Raises:
        ConfigError: it has no meaning, or two; it is not repeated, for it may hold a password.
    """
    host = host.strip()
    if _SCHEME.match(host):
        return parse_url(host, name=name)
    if found := _HOST_AND_PORT.fullmatch(host):
        port = int(found["port"])
        if not found["host"].strip("[]") or not 1 <= port <= _LAST_PORT:
            raise ConfigError(f"{name}: no host before the port, or no port behind it", hint=_HOST_FORM)
        return parse_host(found["host"], name=name) | {"mqtt_port": port}
    if host.startswith("[") and host.endswith("]") and _is_ipv6(host[1:-1]):
        return {"mqtt_host": host[1:-1]}
    if host.startswith("[") or host.endswith("]") or (":" in host and not _is_ipv6(host)):
        raise ConfigError(f"{name} is neither a name nor an address", hint=_HOST_FORM)
    return {"mqtt_host": host}


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _split_url(url: str, name: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = None, None
    if parts is None or port == 0:
        # the foreign error would repeat what may be a piece of a password
        raise ConfigError(f"{name}: the host is malformed, or the port is not a number", hint=_URL_FORM)
    return parts, port
