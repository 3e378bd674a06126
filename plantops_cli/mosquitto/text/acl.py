"""Mosquitto's ACL file as text: its grammar, the rights in it, and the one block that is ours.

Pure: bytes in, bytes out. The rules are those of Mosquitto 2.0 and 2.1 (``aclfile__parse`` in
``security_default.c``, ``acl_file__parse`` in ``acl_file.c``), which agree.

Two things shape all that is done here. One bad line makes the broker refuse the whole file. And a line belongs
to the last ``user`` line above it, whatever comments and blank lines stand between: to add or drop a ``user``
line changes whose lines the following ones are. Hence the rule of every change: **each rule outside our block
keeps the user it had**; a change that cannot keep to it is refused.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from plantops_cli.errors import BrokerFileError
from plantops_cli.mosquitto.text.lines import newline_of, split_lines
from plantops_cli.mosquitto.text.lint import FileFault, Weight
from plantops_cli.mosquitto.text.logins import check_username
from plantops_cli.topics import DEVICE_FILTERS

MAX_LEVEL_SEPARATORS = 200
"""Most ``/`` that Mosquitto allows in a topic (TOPIC_HIERARCHY_LIMIT in its ``mosquitto_broker.h``)."""

_CLOSING = b"# <<< plantops provision-user"


class Access(StrEnum):
    """What a rule allows, or ``deny``, which wins over all that its user is allowed."""

    READ = "read"
    WRITE = "write"
    READWRITE = "readwrite"
    DENY = "deny"


class Rule(NamedTuple):
    """One ``topic`` or ``pattern`` line.

    Attributes:
        line: its number, from 1.
        user: whose it is; None for clients without a user name. A pattern is everybody's.
        access: what it allows or denies.
        topic: its topic filter.
        is_pattern: whether ``%u`` and ``%c`` in the filter stand for user name and client id.
    """

    line: int
    user: str | None
    access: Access
    topic: str
    is_pattern: bool

    def __str__(self) -> str:
        return f"{'pattern' if self.is_pattern else 'topic'} {self.access} {_quote(self.topic)}"


class _UserLine(NamedTuple):
    line: int
    name: str


@dataclass(frozen=True, slots=True)
class _Block:
    """A marked block: its lines are ``start`` (the opening marker, from 0) up to but not including ``end``."""

    start: int
    end: int

    def __contains__(self, position: object) -> bool:
        return isinstance(position, int) and self.start <= position < self.end


class _BadLineError(Exception):
    """A line outside the grammar; does not leave this module."""


def check_acl(content: bytes) -> list[FileFault]:
    """Find what makes the broker refuse an ACL file, and what it takes otherwise than it looks.

    NUL weighs as much as a bad line, although 2.0 does not refuse the file for it: it passes over all that
    follows, and with it over every ``deny`` and every right there.

    Args:
        content: the whole file.
    """
    faults = []
    for number, line in enumerate(split_lines(content), start=1):
        try:
            message = _why_surprising(number, line)
        except _BadLineError as exc:
            faults.append(FileFault(number, str(exc), Weight.STOPS_ALL, is_silent=b"\0" in line))
        else:
            if message is not None:
                faults.append(FileFault(number, message, Weight.NOTE))
    return faults


def upsert_block(content: bytes, username: str) -> bytes:
    """Give a user exactly one marked block that lets it read ``DEVICE_FILTERS``, and keep every other byte.

    A new block goes to the end; one that is there is put right where it stands, and of several one stays. Lines
    end as those that are there do.

    Args:
        content: the whole ACL file, without faults that stop the broker.
        username: a user name that ``check_username`` allows.

    Raises:
        ConfigError: the user name is not allowed.
        BrokerFileError: a block has lost its closing marker, holds another user's lines, or the change would
            give somebody's lines to somebody else.
    """
    check_username(username)
    lines = split_lines(content)
    found = _own_blocks(lines, username)
    if not found:
        newline = newline_of(lines[0]) if lines else b"\n"
        if lines and not lines[-1].endswith(b"\n"):
            lines[-1] += b"\n" if lines[-1].endswith(b"\r") else newline
        return b"".join([*lines, *_block_lines(username, newline)])
    # any of them may be the one whose lines below need it
    attempts = [
        _without(lines, found, instead={kept: _block_lines(username, newline_of(lines[kept.start]))})
        for kept in found
    ]
    shifts = [_first_shift(lines, found, attempt, username) for attempt in attempts]
    if None not in shifts:
        raise _shift_error(shifts[0], username)
    return b"".join(attempts[shifts.index(None)])


def remove_block(content: bytes, username: str) -> bytes:
    """Take a user's marked blocks away; sections of the user that are written by hand stay.

    Args:
        content: the whole ACL file, without faults that stop the broker.
        username: the user.

    Raises:
        BrokerFileError: rules stand below the block that would become another user's, or as ``upsert_block``.
    """
    lines = split_lines(content)
    found = _own_blocks(lines, username)
    rest = _without(lines, found, instead={})
    shift = _first_shift(lines, found, rest, username)
    if shift is not None:
        raise _shift_error(shift, username)
    return b"".join(rest)


def has_block(content: bytes, username: str) -> bool:
    """Tell whether a user has a marked block in the file.

    Args:
        content: the whole ACL file.
        username: the user.
    """
    return any(line.rstrip() == _opening(username) for line in split_lines(content))


def acl_notices(content: bytes, username: str) -> list[str]:
    """Say what else in the file bears on a user's rights, besides the marked block.

    Args:
        content: the whole ACL file.
        username: the user of the block.
    """
    lines = split_lines(content)
    blocks = _own_blocks(lines, username)
    found: dict[int, list[str]] = {}
    for number in _sections_elsewhere(lines, blocks, username):
        found.setdefault(number, []).append(
            f"line {number} opens another section of user {_quote(username)}; the broker adds it to ours"
        )
    below = _lines_below(lines, blocks)
    for position, rule in _owned(lines):
        if any(position in block for block in blocks):
            continue
        if rule.line in below:
            found.setdefault(rule.line, []).append(
                f"line {rule.line} stands below our block, and so belongs to user {_quote(username)}: {rule}"
            )
        reason = _why_notable(rule, username)
        if reason is not None:
            found.setdefault(rule.line, []).append(reason)
    return [notice for number in sorted(found) for notice in found[number]]


def covers(wide: str, narrow: str) -> bool:
    """Tell whether a topic filter matches every topic that another one matches.

    Args:
        wide: a valid topic filter.
        narrow: a valid topic filter.
    """
    if _hides_dollar(wide, narrow):
        return False
    outer, inner = wide.split("/"), narrow.split("/")
    for level, (mine, theirs) in enumerate(zip(outer, inner, strict=False)):
        if mine == "#":
            return True
        if theirs == "#" or mine not in ("+", theirs):
            # 'a/+' is not inside 'a/b'; '#' would also match more levels
            return False
        if level + 1 == len(inner):
            # 'sport/#' also matches 'sport' (MQTT 5, 4.7.1.2)
            return outer[level + 1 :] in ([], ["#"])
    return False


def overlaps(one: str, other: str) -> bool:
    """Tell whether there is a topic that both topic filters match.

    Args:
        one: a valid topic filter.
        other: a valid topic filter.
    """
    if _hides_dollar(one, other) or _hides_dollar(other, one):
        return False
    mine, theirs = one.split("/"), other.split("/")
    for left, right in zip(mine, theirs, strict=False):
        if "#" in (left, right):
            return True
        if left != right and "+" not in (left, right):
            return False
    shorter, longer = sorted((mine, theirs), key=len)
    return longer[len(shorter) :] in ([], ["#"])


def _hides_dollar(topic_filter: str, other: str) -> bool:
    # wildcards in the first level do not match what begins with '$' (MQTT 5, 4.7.2)
    return topic_filter[:1] in ("+", "#") and other.startswith("$")


def _parse_line(number: int, line: bytes, user: str | None) -> _UserLine | Rule | None:
    """Read a line as the broker does; None for a comment or a blank line.

    Raises:
        _BadLineError: the broker refuses the file for it; the message says why.
    """
    if b"\0" in line:
        raise _BadLineError("contains NUL, after which Mosquitto 2.0 reads nothing more of the file")
    text = line.rstrip()
    if text.startswith(b"#"):  # in the first column only: for an indented one the broker refuses the file
        return None
    first, _, rest = text.lstrip(b" ").partition(b" ")
    rest = rest.lstrip(b" ")
    if not first:
        return None
    if first == b"user":
        return _UserLine(number, _parse_user(rest))
    if first not in (b"topic", b"pattern"):
        raise _BadLineError(_why_unknown(text, first))
    if not rest:
        raise _BadLineError(f"{first.decode()} without a topic")
    access, topic = _parse_access(rest)
    reason = _why_no_filter(topic)
    if reason is not None:
        raise _BadLineError(reason)
    return Rule(number, user, access, _decode(topic), first == b"pattern")


def _parse_user(rest: bytes) -> str:
    name = rest.strip()
    if not name:
        raise _BadLineError("user without a name")
    return _decode(name)


def _parse_access(rest: bytes) -> tuple[Access, bytes]:
    word, space, topic = rest.partition(b" ")
    if not space:
        # one word is the topic, even "read": the access is what may be left out
        return Access.READWRITE, word
    try:
        return Access(_decode(word)), topic.strip()
    except ValueError:
        raise _BadLineError(f"{_quote(_decode(word))} is not one of read, write, readwrite, deny") from None


def _why_unknown(text: bytes, first: bytes) -> str:
    shown = _quote(_decode(first))
    if first.startswith(b"\xef\xbb\xbf"):
        return "begins with a byte order mark"
    if text.lstrip().startswith(b"#"):
        return "a comment must begin in the first column"
    if b"\t" in first:
        return f"{shown}: Mosquitto separates words by spaces, not tabs"
    return f"{shown} is not one of user, topic, pattern"


def _why_no_filter(topic: bytes) -> str | None:
    """Say why Mosquitto takes this for no topic filter (``mosquitto_sub_topic_check``)."""
    shown = _quote(_decode(topic))
    if len(topic) > 65_535:
        return "a topic of more than 65,535 bytes"
    levels = topic.split(b"/")
    if len(levels) - 1 > MAX_LEVEL_SEPARATORS:
        return f"a topic of more than {MAX_LEVEL_SEPARATORS + 1} levels"
    comment = "; a comment must begin in the first column" if b" #" in topic else ""
    if any(b"#" in level and level != b"#" for level in levels) or b"#" in levels[:-1]:
        return f"topic {shown}: '#' must be the whole last level{comment}"
    if any(b"+" in level and level != b"+" for level in levels):
        return f"topic {shown}: '+' must be a whole level"
    return None


def _why_surprising(number: int, line: bytes) -> str | None:
    """Say in what a good line may deceive its writer, or None."""
    parsed = _parse_line(number, line, None)
    if isinstance(parsed, _UserLine):
        if "#" in parsed.name:
            return f"the user's name is {_quote(parsed.name)}: a comment must begin in the first column"
        return _why_tab(parsed.name)
    if not isinstance(parsed, Rule):
        return None
    words = line.split()
    if len(words) == 2 and parsed.access is Access.READWRITE:
        if parsed.topic in tuple(Access):
            return f"reading and writing of a topic that is called {parsed.topic!r}: the topic itself is missing"
        return _why_tab(parsed.topic) or f"without read or write before it, {_quote(parsed.topic)} is readwrite"
    if parsed.is_pattern and not re.search("%[uc]", parsed.topic):
        return f"a pattern without %u or %c is a right of every user: {parsed}"
    return _why_tab(parsed.topic)


def _why_tab(text: str) -> str | None:
    return f"{_quote(text)} contains a tab: Mosquitto separates words by spaces" if "\t" in text else None


def _owned(lines: Sequence[bytes]) -> Iterator[tuple[int, Rule]]:
    """Each rule with the position of its line, from 0."""
    user = None
    for position, line in enumerate(lines):
        parsed = _parse_good(position, line, user)
        if isinstance(parsed, _UserLine):
            user = parsed.name
        elif isinstance(parsed, Rule):
            yield position, parsed


def _parse_good(position: int, line: bytes, user: str | None) -> _UserLine | Rule | None:
    try:
        return _parse_line(position + 1, line, user)
    except _BadLineError:
        return None


def _block_lines(username: str, newline: bytes) -> list[bytes]:
    rules = [f"topic read {topic_filter}".encode() for topic_filter in DEVICE_FILTERS]
    return [line + newline for line in (_opening(username), b"user " + _encode(username), *rules, _CLOSING)]


def _opening(username: str) -> bytes:
    return b"# >>> plantops provision-user: " + _encode(username) + b" (managed)"


def _own_blocks(lines: Sequence[bytes], username: str) -> list[_Block]:
    opening = _opening(username)
    starts = [position for position, line in enumerate(lines) if line.rstrip() == opening]
    return [_find_end(lines, start, username) for start in starts]


def _find_end(lines: Sequence[bytes], start: int, username: str) -> _Block:
    for position in range(start + 1, len(lines)):
        text = lines[position].rstrip()
        if text == _CLOSING:
            return _Block(start, position + 1)
        if text.startswith(b"# >>> plantops provision-user: "):
            break
        parsed = _parse_good(position, lines[position], None)
        if isinstance(parsed, _UserLine) and parsed.name != username:
            raise BrokerFileError(
                f"line {position + 1}: user {_quote(parsed.name)} stands inside the block of {_quote(username)}",
                hint=f"move it and its lines below '{_CLOSING.decode()}'",
            )
    raise BrokerFileError(
        f"line {start + 1} opens a block of {_quote(username)} that is not closed",
        hint=f"put '{_CLOSING.decode()}' below its last line",
    )


def _without(
    lines: Sequence[bytes], blocks: Sequence[_Block], *, instead: dict[_Block, list[bytes]]
) -> list[bytes]:
    kept: list[bytes] = []
    position = 0
    for block in blocks:
        kept += [*lines[position : block.start], *instead.get(block, [])]
        position = block.end
    return [*kept, *lines[position:]]


def _first_shift(
    before: Sequence[bytes], blocks: Sequence[_Block], after: Sequence[bytes], username: str
) -> Rule | None:
    """Return the first rule outside our blocks that a change would give to another user."""
    # all others are there before and after, in the same order: compare them one by one
    own = _own_blocks(after, username)
    outside = (rule for place, rule in _owned(before) if not any(place in block for block in blocks))
    still = (rule for place, rule in _owned(after) if not any(place in block for block in own))
    pairs = zip(outside, still, strict=True)
    return next((old for old, new in pairs if old.user != new.user and not old.is_pattern), None)


def _shift_error(rule: Rule | None, username: str) -> BrokerFileError:
    line, text = (rule.line, str(rule)) if rule else (0, "")
    return BrokerFileError(
        f"line {line} would change its user if the block of {_quote(username)} did: {text}",
        hint="put a user line of its own above it",
    )


def _sections_elsewhere(lines: Sequence[bytes], blocks: Sequence[_Block], username: str) -> list[int]:
    parsed = (
        _parse_good(position, line, None)
        for position, line in enumerate(lines)
        if not any(position in block for block in blocks)
    )
    return [item.line for item in parsed if isinstance(item, _UserLine) and item.name == username]


def _lines_below(lines: Sequence[bytes], blocks: Sequence[_Block]) -> set[int]:
    """The numbers of the rules that come after a block of ours and before the next ``user`` line."""
    below: set[int] = set()
    for block in blocks:
        for position in range(block.end, len(lines)):
            parsed = _parse_good(position, lines[position], None)
            if isinstance(parsed, _UserLine):
                break
            if isinstance(parsed, Rule) and not parsed.is_pattern:
                below.add(position + 1)
    return below


def _why_notable(rule: Rule, username: str) -> str | None:
    if rule.is_pattern:
        # a denying pattern comes after the user's own rules, and cannot take ours away
        return None if rule.access is Access.DENY else _why_wide_pattern(rule, username)
    if rule.user != username:
        return None
    if rule.access is Access.DENY:
        beaten = " and ".join(wanted for wanted in DEVICE_FILTERS if overlaps(rule.topic, wanted))
        return f"line {rule.line} takes from {beaten}, wherever it stands: {rule}" if beaten else None
    if _is_needed(rule.access, rule.topic):
        return None
    return f"line {rule.line} gives user {_quote(username)} more than is needed: {rule}"


def _why_wide_pattern(rule: Rule, username: str) -> str | None:
    levels = rule.topic.split("/")
    if "%u" in levels:
        # confined to the user's own name
        return None
    # a client id may be anything, so that a level with %c is as wide as a level can be
    topic = "/".join("+" if "%c" in level else level.replace("%u", username) for level in levels)
    if _is_needed(rule.access, topic):
        return None
    return f"line {rule.line} gives every user more than {_quote(username)} needs: {rule}"


def _is_needed(access: Access, topic: str) -> bool:
    return access is Access.READ and any(covers(wanted, topic) for wanted in DEVICE_FILTERS)


def _decode(text: bytes) -> str:
    return text.decode(errors="surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _quote(text: str) -> str:
    """Show a stranger's text: escaped to ASCII, and short."""
    return ascii(text if len(text) <= 80 else text[:79] + "…")
