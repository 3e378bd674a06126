"""Make a stranger's text safe to show on a terminal.

Escaped is whatever moves the cursor, recolours, reorders or has no look of its own: C0, DEL and C1, every
character of Unicode's category Cf (bidi controls, zero-width characters, byte order mark, tags), the letters and
marks that are to be shown as nothing (Default_Ignorable_Code_Point: fillers, variation selectors), the signs that
are drawn blank (the empty Braille pattern and its like), every space but that of ASCII, the line and paragraph
separators, and lone surrogates. The zero-width joiner is no exception: a joined emoji shows its parts, and in
return two device ids that differ in an invisible character never look the same.
Everything else passes unchanged, a backslash too: the result is for reading, not for parsing. ``escape_name`` goes
further, so that no two names come out alike; but letters of two alphabets that fonts draw alike, as Latin and
Cyrillic a, are not told apart.
"""

import re
from unicodedata import is_normalized

_INVISIBLE = (
    "\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u1680\u17b4\u17b5"
    "\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufffc\U0001107f\U000110bd\U000110cd\U00013430-\U0001343f\U00013441\U00013442\U00016fe4"
    "\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# backslashes that, once what is behind them is escaped, would read as the beginning of an escape
_LIKE_ESCAPES = re.compile(r"\\+(?=[nrtxuU]|[^ -~]| +\Z)")
_OUTER_BLANKS = re.compile(r"\A +| +\Z")
_UNSAFE = re.compile(f"[\0-\x1f{_INVISIBLE}]")
# C0 is left out: JSON allows it between tokens only, as white space, where an escape would break the line
_UNSAFE_IN_JSON = re.compile(f"[{_INVISIBLE}]")


def escape(text: str) -> str:
    r"""Return the text with every unsafe character as an escape like ``\n``, ``\x1b`` or ``\u202e``.

    Args:
        text: anything, lone surrogates included.
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_python_escape, text)


def escape_name(text: str) -> str:
    r"""Return a name, such as a device id, so that no other name is shown like it.

    As ``escape``; moreover a blank at an end is ``\x20``; a backslash is doubled where it would pass for the
    beginning of an escape; what Unicode has no look for is escaped, and so is, in a name that is not in its normal
    form NFC (``e`` with a combining accent), everything that is not ASCII.

    Args:
        text: anything, lone surrogates included.
    """
    is_plain = text.isprintable() and "\\" not in text and text == text.strip()
    is_normal = text.isascii() or is_normalized("NFC", text)
    if is_plain and is_normal and (text.isascii() or not _UNSAFE.search(text)):
        return text
    doubled = _LIKE_ESCAPES.sub(r"\g<0>\g<0>", text)
    inner = "".join(each if _is_plain(each, is_normal=is_normal) else _escaped(each) for each in doubled)
    return _OUTER_BLANKS.sub(lambda found: r"\x20" * len(found[0]), inner)


def escape_lines(text: str) -> str:
    r"""Return the text with every unsafe character escaped but for the newlines of its own.

    Args:
        text: lines that are known to be lines, such as a traceback.
    """
    return "\n".join(map(escape, text.split("\n")))


def encodable(text: str) -> str:
    r"""Return the text with lone surrogates as escapes like ``\udcff``, so that it can be written as UTF-8.

    Args:
        text: what may come from an argument, a path or the environment, where they stand for other bytes.
    """
    return text.encode(errors="backslashreplace").decode()


def json_escape(line: bytes) -> bytes:
    r"""Return the same JSON with every unsafe character written as ``\u....`` (RFC 8259, section 7).

    Args:
        line: valid JSON in UTF-8, with or without a newline at its end.
    """
    if line.isascii() and b"\x7f" not in line:
        return line
    return _UNSAFE_IN_JSON.sub(_json_escape, line.decode()).encode()


def _python_escape(found: re.Match[str]) -> str:
    return _escaped(found[0])


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


def _is_plain(character: str, *, is_normal: bool) -> bool:
    return character.isprintable() and (character.isascii() or (is_normal and not _UNSAFE.match(character)))


def _json_escape(found: re.Match[str]) -> str:
    code_units = found[0].encode("utf-16-be")
    return "".join(f"\\u{code_units[i : i + 2].hex()}" for i in range(0, len(code_units), 2))
