"""What strangers write, in Markdown."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.formats.markdown import escape_markdown
from plantops_cli.formats.terminal import escape

PUNCTUATION = re.escape("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


def shown(markdown: str) -> str:
    """What a reader sees of it (CommonMark, 2.4 and 2.5), if nothing in it is markup."""
    return html.unescape(re.sub(rf"\\([{PUNCTUATION}])", r"\1", markdown))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
        ("[x](javascript:alert(1))", r"\[x\](javascript:alert(1))"),
        ("![x](http://x/y.png)", r"\!\[x\](http\://x/y.png)"),
        ("https://x www.x.org WWW.x a@b.c", r"https\://x www\.x.org WWW\.x a\@b.c"),
        ("a|b\\|c", r"a\|b\\\|c"),
        ("`a``b`", r"\`a\`\`b\`"),
        ("**a** _b_ ~~c~~ $d$ &copy;", r"\*\*a\*\* \_b\_ \~\~c\~\~ \$d\$ &amp;copy;"),
        ("a\n\x1b[2J", r"a\\n\\x1b\[2J"),
    ],
)
def test_markup_links_and_bars_are_only_shown(text: str, written: str) -> None:
    assert escape_markdown(text) == written


@pytest.mark.parametrize("text", ["plant-1", "plant_1_a", "größe 3.5 (now)", "20:15:02", ""])
def test_plain_names_stay_legible(text: str) -> None:
    assert escape_markdown(text) == text


@given(st.text(st.sampled_from("\\|`<>[]()!*_~&@:/.w#") | st.characters(exclude_categories=["Cs"])))
def test_a_reader_sees_what_was_sent_on_one_line_without_markup(text: str) -> None:
    written = escape_markdown(text)
    assert shown(written) == escape(text)
    assert "\n" not in written
    assert not re.search(r"[<>]|(?<!\\)(?:\\\\)*[|`\[\]*]|://|www\.", written)
