"""What the library says of an argument, said of the flag that sets it.

The library knows no command line: its hints speak of ``TLSOptions(cafile=...)``. Whoever typed a command is told
of ``--cafile``. What is said there has to be found here; a test holds the two together.
"""

import re
from functools import cache

SETTINGS = {
    "mqtt_url": "--url",
    "mqtt_host": "--host",
    "mqtt_port": "--port",
    "mqtt_backend_username": "--username",
    "mqtt_tls": "--tls",
    "mqtt_cafile": "--cafile",
    "mqtt_certfile": "--cert",
    "mqtt_keyfile": "--key",
    "mqtt_client_id": "--client-id",
    "mqtt_password_file": "--file",
    "mqtt_broker_config": "--config",
    "mqtt_reload": "--reload",
}
"""The flag of each setting that has one."""

PHRASES = {
    "TLSOptions(cafile=...)": "--cafile",
    "TLSOptions(cafile=FILE)": "--cafile FILE",
    "TLSOptions(certfile=...)": "--cert",
    "TLSOptions(certfile=..., keyfile=...)": "--cert and --key",
    "TLSOptions(insecure=True)": "--insecure",
    "tls=TLSOptions()": "--tls",
    "leave tls= away": "leave --tls and mqtts:// away",
    "check the host or MQTT_HOST": "check -h/--host or MQTT_HOST",
    "client_id=ID": "-i/--client-id",
    "durable=NAME": "--durable NAME",
    "mqtt_version='3.1.1'": "-V 3.1.1",
    "set mqtt_version='5'": "give -V 5",
    "leave group= away": "leave --group away",
    "set group_anyway=True": "give --group-anyway",
    "websocket_path=PATH": "--websockets PATH",
    "is_canary=True": "--canary",
    "the name or the address alone": "the name or the address alone, or the whole as -L/--url mqtt://HOST:PORT",
    "broker URL": "--url",
    "take it out; set MQTT_BACKEND_PASSWORD": "take it out; set MQTT_BACKEND_PASSWORD, or use --secret-file or -P",
    "secret_file and ask": "--secret-file and --ask-password",
    "secret_file=FILE": "--secret-file FILE",
    "secret_file=FILE or ask=True": "--secret-file FILE, -P, --anonymous, or --no-password for a token",
    "secret_file='-'": "--secret-file -",
    "secret_file=": "--secret-file",
    "secret_file:": "--secret-file:",
    "use the password in it": "use the password in it: leave --generate out",
    "load_settings(env_file=...)": "--env-file",
    "with plantops provision-user": "with plantops provision-user --acl-file",
    # of provisioning
    "reload by ": "--reload ",
    "a command does not say which": "--reload command:... does not say which",
    "ways to tell it: ": "--reload ",
    "let a command do it: command:CMD": "let a command do it: --reload 'command:...'",
    "make the user through the plugin": "--backend dynsec",
    "name the password file": "give --file FILE or set MQTT_PASSWORD_FILE",
    "name the one that is meant": "choose by --file",
    "name no other file": "leave --file out",
    "name its mosquitto.conf": "give its mosquitto.conf by --config",
    "name the broker's user as its owner": "name the broker's user as its owner: --owner",
    "wait longer for the lock": "wait longer with --lock-timeout",
    "do without the trial": "leave --trial-broker away",
    "give the address of a listener to prove it on": "-h, -p and --cafile name a listener to prove it on",
    "use TLS, or run it on the broker's machine": "use TLS (--tls), or run it on the broker's machine",
}
"""What is said instead of the words of the library."""

# as repr() and ascii() write a text
_QUOTED = r"(?<!\w)(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"


def in_flags(text: str) -> str:
    """Say a message or a hint of the library in the words of the command line.

    What it quotes is left as it is, for that is somebody else's.

    Args:
        text: what the library says.
    """
    return _known().sub(lambda found: _words().get(found[0], found[0]), text)


@cache
def _words() -> dict[str, str]:
    return PHRASES | SETTINGS


@cache
def _known() -> re.Pattern[str]:
    longest_first = sorted(_words(), key=len, reverse=True)
    # not within a path or a longer word, nor as the host of an endpoint: those are somebody else's
    ours = rf"(?<![\w./-])(?:{'|'.join(map(re.escape, longest_first))})(?!:\d)"
    # a phrase of ours that ends in something quoted begins before it, and so is found first
    return re.compile(rf"{ours}|{_QUOTED}")
