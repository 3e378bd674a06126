"""The library's words of provisioning, as they are said to somebody who types flags."""

from collections.abc import Iterator
from contextlib import contextmanager

from plantops_cli.errors import PlantopsError

# The library names no flag, for a program that calls it has none: what it advises is said here by the flag that
# does it. In this order, for what one of them makes another must not take.
FLAGS_FOR = {
    "reload by ": "--reload ",
    "a command does not say which": "--reload command:... does not say which",
    "ways to tell it: pid:": "--reload pid:",
    "let a command do it: command:CMD": "let a command do it: --reload 'command:...'",
    "make the user through the plugin": "--backend dynsec",
    "name the password file": "give --file FILE or set MQTT_PASSWORD_FILE",
    "name one of them": "choose by --file",
    "name no other file": "leave --file out",
    "name its mosquitto.conf": "give its mosquitto.conf by --config",
    "name the broker's user as its owner": "name the broker's user as its owner: --owner",
    "wait longer for the lock": "wait longer with --lock-timeout",
    "do without the trial": "leave --trial-broker away",
    "give the address of a listener to prove it on": "-h, -p and --cafile name a listener to prove it on",
    "use TLS, or run it on the broker's machine": "use TLS (--tls), or run it on the broker's machine",
}


def in_flags(text: str) -> str:
    """Say a text of the library by the flags of ``provision-user``.

    Args:
        text: a message, a hint or a notice.
    """
    for words, flags in FLAGS_FOR.items():
        text = text.replace(words, flags)
    return text


def name_flags(error: PlantopsError) -> None:
    """Say an error of the library, and its cure, by the flags of ``provision-user``."""
    error.args = (in_flags(str(error)), *error.args[1:])
    error.hint = error.hint and in_flags(error.hint)


@contextmanager
def naming_flags() -> Iterator[None]:
    """Let errors through, said by flags."""
    try:
        yield
    except PlantopsError as exc:
        name_flags(exc)
        raise
