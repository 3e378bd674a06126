"""Make a stranger's text safe to show on a terminal.

Escaped is whatever moves the cursor, recolours, reorders or has no look of its own: C0, DEL and C1, every
character of Unicode's category Cf (bidi controls, zero-width characters, byte order mark, tags), the letters and
marks that are to be shown as nothing (Default_Ignorable_Code_Point: fillers, variation selectors), the line and
paragraph separators, and lone surrogates. The zero-width joiner is no exception: a joined emoji shows its
parts, and in return two device ids that differ in an invisible character never look the same.
Everything else passes unchanged, a backslash too: the result is for reading, not for parsing.
"""

import re

_INVISIBLE = (
    "\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_UNSAFE = re.compile(f"[\0-\x1f{_INVISIBLE}]")
# C0 is left out: JSON allows it between tokens only, as white space, where an escape would break the line
_UNSAFE_IN_JSON = re.compile(f"[{_INVISIBLE}]")


def escape(text: str) -> str:
    r"""Return the text with every unsafe character as an escape like ``\n``, ``\x1b`` or ``\u202e``.

    Args:
        text: anything, lone surrogates included.
    """
    return _UNSAFE.sub(_python_escape, text) if _UNSAFE.search(text) else text


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
    return found[0].encode("unicode_escape").decode("ascii")


def _json_escape(found: re.Match[str]) -> str:
    code_units = found[0].encode("utf-16-be")
    return "".join(f"\\u{code_units[i : i + 2].hex()}" for i in range(0, len(code_units), 2))
