"""What may be a user name or a password: the rules of MQTT, and those of Mosquitto's password file on top.

Pure. A login that breaks one of them could not log in, or somebody else could: it is refused before it is written.
"""

import re

from plantops_cli.errors import ConfigError, shown_username

MAX_STRING_BYTES = 65_535
"""Longest user name and longest password that a CONNECT can carry (MQTT 5, 1.5.4 and 1.5.6)."""

_SHOWN_CHARACTERS = 80

_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(
    chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF)
)
_USERNAME_FAULTS = (
    (re.compile(r"\A\Z"), "is empty"),
    (re.compile(r"[\ud800-\udfff]"), "is not UTF-8"),
    (re.compile(r"[\x00-\x1f\x7f-\x9f]"), "contains a control character, which MQTT rules out"),
    (re.compile(f"[{_NONCHARACTERS}]"), "contains a Unicode noncharacter, which MQTT rules out"),
    (re.compile(r"\A\s|\s\Z"), "begins or ends with a blank, which Mosquitto trims"),
    (re.compile(r":"), "contains ':', which ends the user name in a password file"),
    (re.compile(r"\A#"), "begins with '#', which makes the line a comment"),
    (re.compile(r"[+#]"), "contains '+' or '#', which Mosquitto denies where an ACL has patterns"),
)
_PASSWORD_FAULTS = (
    (re.compile(rb"\A\Z"), "is empty", "Mosquitto never accepts an empty password"),
    (re.compile(rb"\0"), "contains NUL", "Mosquitto would accept what stands before it alone"),
    (
        re.compile(rb"[\r\n]"),
        "contains a line break",
        "give it as a file: one line break at its end is dropped",
    ),
)
_CONTROL_FAULT = (
    re.compile(rb"[\x00-\x1f\x7f]"),
    "contains a control character",
    "choose a password that can be typed",
)


def check_username(username: str) -> None:
    """Make sure that a user can log in under this name.

    Raises:
        ConfigError: MQTT (1.5.4) or Mosquitto's password file does not allow it; the message says which rule.
    """
    reason = why_no_username(username)
    if reason is not None:
        raise ConfigError(f"user name {cut_name(shown_username(username))!a} {reason}")


def check_password(password: bytes, *, allow_control: bool = False) -> None:
    """Make sure that a user can log in with this password, and with nothing else.

    Blanks at its ends count, as they do for the broker. Bytes that are not UTF-8 are allowed.

    Args:
        password: the password as the client will send it.
        allow_control: True to allow control characters, but for NUL, CR and LF.

    Raises:
        ConfigError: it is empty, too long, or holds a control character.
    """
    faults = _PASSWORD_FAULTS if allow_control else (*_PASSWORD_FAULTS, _CONTROL_FAULT)
    for fault, reason, hint in faults:
        if fault.search(password):
            raise ConfigError(f"the password {reason}", hint=hint)
    if len(password) > MAX_STRING_BYTES:
        raise ConfigError(
            f"the password has more than {MAX_STRING_BYTES:,} bytes", hint="MQTT carries no longer one"
        )


def password_notices(password: bytes) -> list[str]:
    """Say what about an allowed password may surprise whoever types it elsewhere.

    Args:
        password: one that ``check_password`` allows.
    """
    if password == password.strip():
        return []
    return ["the password begins or ends with a blank, which is kept: every client must send it too"]


def why_no_username(username: str) -> str | None:
    """Say what keeps a user from logging in under this name, as the end of a sentence, or None.

    Args:
        username: MQTT user name.
    """
    reason = next((reason for fault, reason in _USERNAME_FAULTS if fault.search(username)), None)
    if reason is None and len(username.encode()) > MAX_STRING_BYTES:
        return f"has more than {MAX_STRING_BYTES:,} bytes"
    return reason


def cut_name(text: str) -> str:
    """Cut a name for a message: a stranger may have written it, and megabytes of it.

    Args:
        text: the name, as it is to be shown.
    """
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
