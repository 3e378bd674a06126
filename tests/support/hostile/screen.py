"""A judge of what reaches a terminal, strict and of its own mind: it shares nothing with the program."""

import re
import unicodedata

# What rich and the board write: colours and looks, the cursor hidden and shown, the other screen, and home
_LOOK = r"(?:[01234579]|38;5;\d{1,3})"
_OURS = re.compile(rf"\x1b\[(?:{_LOOK}(?:;{_LOOK})*m|\?(?:25|1049)[hl]|H)|\r\n")
_UNSAFE_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Letters and marks that are to be shown as nothing (Default_Ignorable_Code_Point of Unicode)
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)


def faults(shown: bytes) -> list[str]:
    """Return what should not have reached a terminal, in words; empty when nothing.

    Args:
        shown: all bytes that were written to it.
    """
    try:
        text = shown.decode()
    except UnicodeDecodeError as exc:
        return [f"no UTF-8: {shown[exc.start - 60 : exc.end + 20]!r}"]
    rest = _OURS.sub("", text)
    found = [
        f"{rest[max(0, at - 60) : at + 20]!r} holds {char!a}" for at, char in enumerate(rest) if is_unsafe(char)
    ]
    return found[:3]


def is_unsafe(character: str) -> bool:
    """Whether a character commands the terminal, or shows as nothing."""
    return unicodedata.category(character) in _UNSAFE_CATEGORIES or bool(_IGNORABLE.match(character))
