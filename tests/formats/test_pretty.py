import re
import time
from collections.abc import Iterator
from io import StringIO
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.color import Color
from rich.console import Console

from plantops_cli.formats.pretty import MAX_SHOWN_BYTES, PALETTE, Pretty
from plantops_cli.formats.terminal import escape
from plantops_cli.messages import Message
from tests.support.samples import message


def pretty(*, width: int | None = None, is_terminal: bool = False) -> Pretty:
    console = Console(file=StringIO(), force_terminal=is_terminal, color_system="256" if is_terminal else None)
    return Pretty(console, width=width)


def plain(*messages: Message, width: int | None = None) -> list[str]:
    return pretty(width=width).render(messages).splitlines()


def body(payload: bytes) -> str:
    """The line without time, kind and device id."""
    return plain(message(payload))[0].split("  ", maxsplit=3)[3]


@pytest.fixture
def one_hour_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC-1")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("one_hour_east")
def test_a_line_says_local_time_kind_device_and_payload() -> None:
    assert plain(message(b'{"soil":41.50}')) == ["21:15:02.123  telemetry  abc  soil=41.50"]


def test_no_message_is_no_line() -> None:
    assert pretty().render([]) == ""


def test_every_line_ends_in_a_newline() -> None:
    assert pretty().render([message(), message()]).count("\n") == 2


def test_the_payloads_of_one_batch_start_in_one_column() -> None:
    short, long = plain(message(topic="devices/a/telemetry"), message(topic="devices/longer/heartbeat"))
    assert short.index("{}") == long.index("{}")


def test_the_id_column_grows_and_never_shrinks() -> None:
    sink = pretty()
    sink.render([message(topic="devices/longer/telemetry")])
    assert "  abc     {}" in sink.render([message()])


def test_the_id_column_stops_at_24_cells() -> None:
    short, long = plain(message(topic="devices/a/telemetry"), message(topic=f"devices/{'x' * 40}/telemetry"))
    assert f"  a{' ' * 23}  {{}}" in short
    assert f"  {'x' * 40}  {{}}" in long


def test_wide_characters_fill_two_cells_of_the_column() -> None:
    lines = plain(message(topic="devices/日本/telemetry"), message(topic="devices/abcd/telemetry"))
    assert cell_len(lines[0]) == cell_len(lines[1])


def test_a_topic_outside_the_convention_stands_for_kind_and_device() -> None:
    other, device = plain(message(topic="a/b"), message(topic="devices/abc/telemetry"))
    assert "  a/b  " in other
    assert other.index("{}") == device.index("{}")


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b'{"gps":{"lat":1.0},"l":[1, 2]}', "gps.lat=1.0 l=[1,2]"),
        (b"42", "42"),
        (b'"a"', '"a"'),
        (b"alive", 'invalid (not JSON: unexpected character)  "alive"'),
        (b"", "invalid (empty payload)"),
        (b"\xff\x1b", "invalid (not UTF-8: byte 0xff at offset 0)  ff 1b  2 bytes"),
        (b"\xff" * 5200, f"invalid (not UTF-8: byte 0xff at offset 0)  {'ff ' * 32}… 5.2 kB"),
    ],
)
def test_each_form_of_payload_has_its_look(payload: bytes, shown: str) -> None:
    assert body(payload) == shown


def test_retained_and_redelivered_are_words() -> None:
    assert "  retained  dup  {}" in plain(message(retain=True, dup=True))[0]


def test_markup_in_a_payload_and_a_topic_is_shown_as_text() -> None:
    (line,) = plain(message(b'{"a":"[/foo][bold]x"}', topic="devices/[red]a[/]/telemetry"))
    assert "[red]a[/]" in line
    assert 'a="[/foo][bold]x"' in line


@pytest.mark.parametrize("evil", ["\x1b[2J", "\x9b2J", "\u202e", "\x07", "\r", "\n", "\x7f", "\u2028"])
def test_no_control_character_of_a_stranger_reaches_the_terminal(evil: str) -> None:
    quoted = f'{{"{evil}":["{evil}"],"b":"{evil}"}}'.encode()
    sink = pretty(is_terminal=True)
    for payload in (quoted, evil.encode(), quoted * 20_000):
        line = sink.render([message(payload, topic=f"devices/{evil}/telemetry"), message(payload, topic=evil)])
        without_colour = re.sub(r"\x1b\[[\d;]*m", "", line)
        assert escape(without_colour.replace("\n", "", 2)) == without_colour.replace("\n", "", 2)


def test_a_long_line_ends_with_its_size_at_the_width() -> None:
    (line,) = plain(message(b'{"a":"' + b"x" * 5192 + b'"}'), width=80)
    assert cell_len(line) == 80
    assert line.endswith("xxx… 5.2 kB")


def test_a_line_that_fits_exactly_is_not_cut() -> None:
    (line,) = plain(message(b'{"soil":41.5}'))
    assert plain(message(b'{"soil":41.5}'), width=len(line)) == [line]
    assert plain(message(b'{"soil":41.5}'), width=len(line) - 1)[0].endswith("… 13 bytes")


def test_a_wide_character_is_never_cut_in_half() -> None:
    document = f'{{"a":"{"日" * 200}"}}'.encode()
    for width in range(50, 60):
        assert cell_len(plain(message(document), width=width)[0]) == width


def test_a_long_name_leaves_room_for_the_payload() -> None:
    (line,) = plain(message(b'{"soil":41.5}', topic=f"devices/{'x' * 500}/telemetry"), width=100)
    assert "x…  soil=41.5" in line


@pytest.mark.parametrize("width", [1, 5, 20])
def test_a_narrow_terminal_is_never_exceeded(width: int) -> None:
    assert all(cell_len(line) <= width for line in plain(message(b'{"a":' + b"1" * 300 + b"}"), width=width))


def test_without_a_width_64_kib_are_shown_whole() -> None:
    document = b'{"a":"' + b"x" * (MAX_SHOWN_BYTES - 8) + b'"}'
    assert body(document) == "a=" + "x" * (MAX_SHOWN_BYTES - 8)


def test_beyond_64_kib_the_beginning_is_shown_with_the_size() -> None:
    (line,) = plain(message(b'{"a":"' + b"x" * 8_000_000 + b'"}'))
    assert '  abc  {"a":"xxx' in line
    assert line.endswith("xxx… 8.0 MB")
    assert len(line) < MAX_SHOWN_BYTES + 100


def test_beyond_64_kib_too_an_invalid_payload_is_marked() -> None:
    assert "invalid (not JSON" in body(b"x" * 70_000)


def test_a_character_on_the_64_kib_edge_does_not_make_text_binary() -> None:
    (line,) = plain(message(b"a" + "ü".encode() * MAX_SHOWN_BYTES))
    assert line.endswith("ü… 131.1 kB")


def test_big_binary_is_shown_as_hex() -> None:
    assert plain(message(b"\xff" * 100_000))[0].endswith("ff ff… 100.0 kB")


def test_deep_paths_do_not_multiply_the_output() -> None:
    fields = b",".join(b'"k%d":1' % number for number in range(5000))
    (line,) = plain(message(b'{"a":' * 500 + b"{" + fields + b"}" + b"}" * 500))
    assert len(line) < MAX_SHOWN_BYTES + 100


@pytest.mark.parametrize("payload", [b"[" * 5000 + b"]" * 5000, b'{"a":' * 900 + b"1" + b"}" * 900, b"[" * 60_000])
def test_deep_nesting_is_one_line_like_any_other(payload: bytes) -> None:
    assert cell_len(plain(message(payload), width=100)[0]) == 100


def test_a_device_keeps_its_colour_from_run_to_run() -> None:
    lines = [
        pretty(is_terminal=True).render([message(topic=f"devices/{i}/telemetry")]) for i in ("fern", "basil-01")
    ]
    assert "\x1b[1;38;5;32mfern" in lines[0]
    assert "\x1b[1;38;5;168mbasil-01" in lines[1]


def test_without_colour_there_is_no_escape_sequence() -> None:
    assert "\x1b" not in pretty().render([message(b"\xff", retain=True, dup=True)])


@pytest.mark.parametrize("number", PALETTE)
def test_a_colour_can_be_read_on_black_and_on_white(number: int) -> None:
    red, green, blue = (part / 255 for part in Color.from_ansi(number).get_truecolor())
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # WCAG 2.1, relative luminance and contrast ratio; 3 is its minimum for bold text
    assert min((luminance + 0.05) / 0.05, 1.05 / (luminance + 0.05)) >= 3.5


def test_neighbours_in_the_palette_differ() -> None:
    assert all(one != other for one, other in pairwise(PALETTE))
    assert len(set(PALETTE)) == len(PALETTE)


@given(st.binary(max_size=300), st.text(st.characters(codec="utf-8"), min_size=1), st.integers(1, 120))
def test_any_message_is_one_line_within_the_width(payload: bytes, topic: str, width: int) -> None:
    rendered = pretty(width=width).render([message(payload, topic=topic)])
    assert rendered.count("\n") == 1
    assert cell_len(rendered.rstrip("\n")) <= width
