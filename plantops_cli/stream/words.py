"""What a broker says along with a reason code: a Reason String, or which server to use instead. Pure.

It may say anything: a password that it was just sent, a command for a terminal, 64 KiB of it. What is kept holds
no secret of ours; what is shown is quoted, and short.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

_MOST_SHOWN = 200
_WITHHELD = "..."
# of a URL: who is to log in there, and with what
_LOGIN_OF_URL = re.compile(r"(?<=://)\S+@")
# a Server Reference is host:port, or several of them (MQTT 5, 4.11); some brokers say a URL
_LOGIN_OF_SERVER = re.compile(r"(?:(?<=://)|(?<!\S)(?!\S*://))\S+@")


@dataclass(frozen=True, slots=True)
class Words:
    """What a broker has said, without any secret of ours.

    Attributes:
        reason: its Reason String (MQTT 5, 2.2.2.2), or None.
        server: its Server Reference (MQTT 5, 4.11), or None.
    """

    reason: str | None = None
    server: str | None = None

    @classmethod
    def of(cls, properties: Mapping[str, object], *, secrets: Iterable[str | bytes | None] = ()) -> Self:
        """Find them in the properties of a packet.

        Args:
            properties: by paho's names.
            secrets: what is to appear in no output; None is none.
        """
        secrets = tuple(secrets)
        return cls(
            reason=_said(properties.get("ReasonString"), secrets, _LOGIN_OF_URL),
            server=_said(properties.get("ServerReference"), secrets, _LOGIN_OF_SERVER),
        )

    def __str__(self) -> str:
        """What is said, to be put behind the name of a reason code; empty where nothing is."""
        reason = f": {quoted(self.reason)}" if self.reason else ""
        return reason + (f"; the server to use is {quoted(self.server)}" if self.server else "")


NO_WORDS = Words()
"""Of a broker that says no more than a reason code."""


class Answer(int):
    """A reason code (MQTT 5, 2.4), with what the broker has said along with it.

    Attributes:
        words: what it has said.
    """

    words: Words

    def __new__(cls, code: int, words: Words) -> Self:
        """Put a code and words together."""
        made = super().__new__(cls, code)
        made.words = words
        return made


def words_with(code: int) -> Words:
    """Return what the broker has said along with a reason code.

    Args:
        code: an ``Answer``, or a bare code, with which nothing was said.
    """
    return code.words if isinstance(code, Answer) else NO_WORDS


def quoted(text: str) -> str:
    """Write foreign text so that it commands no terminal, and is no longer than it is worth.

    Args:
        text: anything.
    """
    return repr(text[:_MOST_SHOWN]) + ("..." if len(text) > _MOST_SHOWN else "")


def without_secrets(text: str, secrets: Iterable[str | bytes | None]) -> str:
    """Leave out of a text what is to appear in no output.

    Args:
        text: anything.
        secrets: what that is; None is none.
    """
    spellings = {spelling for secret in secrets if secret for spelling in _spellings(secret)}
    for spelling in sorted(spellings, key=len, reverse=True):  # one may be a part of another
        text = text.replace(spelling, _WITHHELD)
    return text


def _spellings(secret: str | bytes) -> Iterable[str]:
    plain = secret.decode(errors="replace") if isinstance(secret, bytes) else secret
    return plain, quote(plain, safe="", errors="replace")


def _said(text: object, secrets: Iterable[str | bytes | None], login: re.Pattern[str]) -> str | None:
    if not isinstance(text, str) or not text:
        return None
    return login.sub("", without_secrets(text, secrets))
