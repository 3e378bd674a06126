"""JSON as compact ``key=value`` pairs for human eyes: digits, order and duplicate keys as they were sent.

Pure. The text is read token by token instead of being parsed: a parser would round the digits, drop duplicate
keys, and recurse as deep as a stranger likes.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import orjson

_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TOKEN = re.compile(
    rf"""
      (?P<string>{_STRING}) (?P<colon>\s*:)?
    | (?P<literal>\{{\s*\}} | [^\s\[\]{{}},:"]+)
    | (?P<array>\[)
    | (?P<open>\{{)
    | (?P<close>\}})
    """,
    re.VERBOSE,
)
_BRACKET = re.compile(rf"{_STRING}|([\[\]])")
_WHITE_SPACE = re.compile(rf"({_STRING})|\s+")
_HARMLESS = re.compile(r"""[^\s="'\\,{}\[\]]+""")
_LITERAL = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?|true|false|null")


class Pair(NamedTuple):
    """One value and where it stands.

    Attributes:
        name: the dotted path of its keys; empty for a document that is no object.
        value: the value as shown.
    """

    name: str
    value: str


def pairs(document: str) -> Iterator[Pair]:
    """Flatten a JSON document, lazily.

    Objects become dotted names, arrays stay compact JSON, strings lose their quotes where nothing is lost with
    them. Control characters are not escaped here.

    Args:
        document: valid JSON.
    """
    path: list[str] = []
    position = 0
    while token := _TOKEN.search(document, position):
        position = token.end()
        match token.lastgroup:
            case "colon":
                path[-1] = _key(token["string"])
            case "open":
                path.append("")
            case "close":
                path.pop()
            case "array":
                position = _end_of_array(document, token.start())
                yield Pair(".".join(path), _compact(document[token.start() : position]))
            case "string" if path:
                yield Pair(".".join(path), _word(token["string"]))
            case _:
                yield Pair(".".join(path), _compact(token[0]))


def quote(text: str) -> str:
    """Put text into double quotes, so that its end is seen."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _key(string: str) -> str:
    text: str = orjson.loads(string)
    return text if _is_harmless(text) else quote(text)


def _word(string: str) -> str:
    """Show a string value: quoted, too, where it would pass for a number, true, false or null."""
    text: str = orjson.loads(string)
    return text if _is_harmless(text) and not _LITERAL.fullmatch(text) else quote(text)


def _is_harmless(text: str) -> bool:
    return _HARMLESS.fullmatch(text) is not None and text.isprintable()


def _end_of_array(document: str, start: int) -> int:
    depth = 0
    for bracket in _BRACKET.finditer(document, start):
        if bracket[1]:
            depth += 1 if bracket[1] == "[" else -1
        if not depth:
            return bracket.end()
    return len(document)


def _compact(json_text: str) -> str:
    return _WHITE_SPACE.sub(r"\1", json_text)
