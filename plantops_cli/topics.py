"""Topic names and topic filters (MQTT 5 section 4.7), patterns that name their levels, and the two device topics.

Pure: nothing here knows of a connection.
"""

import re
from dataclasses import dataclass
from keyword import iskeyword
from typing import Literal, NamedTuple
from unicodedata import normalize

from plantops_cli.errors import TopicError

Kind = Literal["telemetry", "heartbeat"]
KINDS: tuple[Kind, ...] = ("telemetry", "heartbeat")

DEVICE_FILTERS = tuple(f"devices/+/{kind}" for kind in KINDS)
"""The topic filters that match what every device sends."""

MAX_TOPIC_BYTES = 65_535
"""Longest UTF-8 string that MQTT can carry (MQTT 5, 1.5.4)."""

_DEVICE_TOPIC = re.compile(r"devices/([^/+#\0\ud800-\udfff]+)/(telemetry|heartbeat)")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_PATTERN_HINT = "for example devices/{device_id}/telemetry"


class DeviceTopic(NamedTuple):
    """What ``devices/{device_id}/{kind}`` says."""

    device_id: str
    kind: Kind


def parse_topic(topic: str) -> DeviceTopic:
    """Split a device topic into device id and kind.

    Args:
        topic: a topic name, exactly ``devices/{device_id}/telemetry`` or ``devices/{device_id}/heartbeat``.

    Raises:
        TopicError: any other topic, or one that MQTT 4.7 rules out; the message says which rule.
    """
    found = device_topic(topic)
    if found is None:
        raise TopicError(_why_no_device_topic(topic), hint="expected devices/{device_id}/telemetry or /heartbeat")
    return found


def parse_device_id(topic: str) -> str:
    """Return the device id of a device topic.

    Raises:
        TopicError: as ``parse_topic``.
    """
    return parse_topic(topic).device_id


def device_topic(topic: str) -> DeviceTopic | None:
    """Split a device topic, or return None where ``parse_topic`` would raise."""
    found = _DEVICE_TOPIC.fullmatch(topic)
    if found is None or not _fits(topic):
        return None
    return DeviceTopic(*found.groups())  # type: ignore[arg-type]  # the pattern admits the two kinds only


def check_topic(topic: str) -> str:
    """Return a topic name that MQTT allows in a PUBLISH (4.7.1, 4.7.3), unchanged.

    Raises:
        TopicError: it is no text, empty, too long, not UTF-8, or holds NUL or a wildcard.
    """
    _check_string(topic, "topic")
    for wildcard in "+#":
        if wildcard in topic:
            raise TopicError(f"topic {_quote(topic)} contains the wildcard {wildcard!r}")
    return topic


def check_filter(topic_filter: str) -> str:
    """Return a topic filter that MQTT allows in a SUBSCRIBE (4.7.1, 4.8.2), unchanged.

    Raises:
        TopicError: it is no text, empty, too long, not UTF-8, or a wildcard stands where none may stand.
    """
    _check_string(topic_filter, "topic filter")
    quoted = _quote(topic_filter)
    levels = _without_share(topic_filter).split("/")
    for position, level in enumerate(levels, start=1):
        if "#" in level and (level != "#" or position < len(levels)):
            raise TopicError(
                f"topic filter {quoted}: '#' must be the whole last level", hint="for example devices/#"
            )
        if "+" in level and level != "+":
            raise TopicError(
                f"topic filter {quoted}: '+' must be a whole level, not part of {_quote(level)}",
                hint="for example devices/+/telemetry",
            )
    return topic_filter


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether a topic filter matches a topic name (MQTT 5, 4.7).

    A shared subscription matches as the filter inside it (4.8.2); wildcards in the first level do not match
    topics that begin with ``$`` (4.7.2).

    Args:
        topic_filter: a valid topic filter, ``$share/GROUP/`` in front or not.
        topic: a valid topic name.

    Raises:
        TopicError: the filter begins with ``$share/`` but names no group or no filter.
    """
    wanted = _without_share(topic_filter).split("/")
    levels = topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    if wanted[-1] == "#":
        # 'sport/#' also matches the parent level 'sport' (4.7.1.2)
        wanted = wanted[:-1]
        levels = levels[: len(wanted)]
    return len(levels) == len(wanted) and all(w in ("+", level) for w, level in zip(wanted, levels, strict=True))


@dataclass(frozen=True, slots=True)
class Pattern:
    """A topic filter in which levels may have names: ``devices/{device_id}/telemetry``.

    Attributes:
        text: the pattern as it was written.
        topic_filter: the same for a broker, with ``+`` for each name.
        names: the names, in their order.
        positions: the level of a topic that each name stands for, counted from 0.
    """

    text: str
    topic_filter: str
    names: tuple[str, ...] = ()
    positions: tuple[int, ...] = ()

    def captures(self, topic: str) -> dict[str, str]:
        """Return what a topic has where the pattern has names.

        Args:
            topic: a topic name that matches the filter.
        """
        if not self.names:
            return {}
        levels = topic.split("/")
        return {name: levels[position] for name, position in zip(self.names, self.positions, strict=True)}


def parse_pattern(text: str) -> Pattern:
    """Read a topic filter in which a level may be a name in braces, as the parameter of a function is called.

    Args:
        text: for example ``devices/{device_id}/telemetry``; ``+``, ``#`` and ``$share/GROUP/`` are as in any
            filter, and a filter without braces is a pattern without names.

    Raises:
        TopicError: it is no filter (MQTT 4.7), or a name is no Python identifier, not a whole level, or not the
            only one of its kind.
    """
    inner = _without_share(check_filter(text))
    prefix = text.removesuffix(inner)
    if "{" in prefix or "}" in prefix:
        raise TopicError(f"pattern {_quote(text)}: a group cannot be captured", hint=_PATTERN_HINT)
    levels = inner.split("/")
    named = {at: _name_in(level, text) for at, level in enumerate(levels) if "{" in level or "}" in level}
    names = tuple(named.values())
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise TopicError(
            f"pattern {_quote(text)}: {_quote(twice)} is there more than once", hint="give each level its own name"
        )
    topic_filter = prefix + "/".join("+" if at in named else level for at, level in enumerate(levels))
    return Pattern(text, topic_filter, names, tuple(named))


def _name_in(level: str, text: str) -> str:
    name = level[1:-1]
    if level != f"{{{name}}}" or "{" in name or "}" in name:
        raise TopicError(
            f"pattern {_quote(text)}: a name in braces must be a whole level, not part of {_quote(level)}",
            hint=_PATTERN_HINT,
        )
    if not name:
        raise TopicError(f"pattern {_quote(text)}: the braces hold no name", hint=_PATTERN_HINT)
    if not name.isidentifier() or iskeyword(name):
        kind = "a keyword of Python" if iskeyword(name) else "no Python identifier"
        raise TopicError(
            f"pattern {_quote(text)}: {_quote(name)} is {kind}, so no parameter can be called so",
            hint=_PATTERN_HINT,
        )
    # as Python does it to the names of parameters, so that the two meet
    return normalize("NFKC", name)


def _without_share(topic_filter: str) -> str:
    if not topic_filter.startswith("$share/"):
        return topic_filter
    _, group, inner = [*topic_filter.split("/", 2), ""][:3]
    if not group or "+" in group or "#" in group or not inner:
        raise TopicError(
            f"topic filter {_quote(topic_filter)}: a shared subscription is $share/GROUP/FILTER",
            hint="for example $share/workers/devices/+/telemetry",
        )
    return inner


def _check_string(text: str, what: str) -> None:
    if not isinstance(text, str):
        raise TopicError(
            f"a {what} is text, not of type {type(text).__name__}", hint='for example "devices/abc/telemetry"'
        )
    if not text:
        raise TopicError(f"an empty {what} is not allowed")
    if "\0" in text:
        raise TopicError(f"{what} {_quote(text)} contains NUL")
    if _SURROGATE.search(text):
        raise TopicError(f"{what} {_quote(text)} is not UTF-8")
    if not _fits(text):
        size = len(text.encode())
        raise TopicError(f"{what} {_quote(text)} has {size:,} bytes; MQTT allows {MAX_TOPIC_BYTES:,}")


def _fits(text: str) -> bool:
    # UTF-8 takes at most 4 bytes a character, so that most texts need not be encoded to be measured
    return len(text) * 4 <= MAX_TOPIC_BYTES or len(text.encode(errors="replace")) <= MAX_TOPIC_BYTES


def _why_no_device_topic(topic: str) -> str:
    try:
        check_topic(topic)
    except TopicError as exc:
        return str(exc)
    levels = topic.split("/")
    quoted = _quote(topic)
    if levels[0] != "devices":
        return f"topic {quoted} does not begin with devices/"
    if len(levels) != 3:
        return f"topic {quoted} has {len(levels)} levels, not 3"
    if not levels[1]:
        return f"topic {quoted} has an empty device id"
    return f"topic {quoted} ends in {_quote(levels[2])}, not telemetry or heartbeat"


def _quote(text: str) -> str:
    """Show a stranger's text: escaped to ASCII, and short."""
    return ascii(text if len(text) <= 80 else text[:79] + "…")
