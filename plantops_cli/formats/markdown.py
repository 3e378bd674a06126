"""A stranger's text in Markdown: shown as it is, never as markup, a link, or the end of a cell. Pure."""

import re

from plantops_cli.formats.terminal import escape

# `_` within a word is no markup (CommonMark, 6.2). A backslash before what GitHub links by itself (GFM, 6.9) keeps
# it from that: `://`, `www.`, and the `@` of an address
_MARKUP = re.compile(r"[\\`*\[\]|~!$@#]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)
_ENTITIES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}


def escape_markdown(text: str) -> str:
    """Return text for the middle of a line of Markdown, such as the cell of a table.

    Args:
        text: anything; what a terminal must not see is escaped too.
    """
    return _MARKUP.sub(r"\\\g<0>", escape(text)).translate(_ENTITIES)
