"""Each format that ``-o`` offers, by what all of them promise."""

import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

import plantops_cli.formats
from plantops_cli.formats.registry import Format
from plantops_cli.messages import Message
from plantops_cli.stream.batch import Batch
from tests.support.samples import batch_of, message

SAMPLE = batch_of(
    message(b'{"soil":41.5}'),
    message(b'{\n"soil":\n42}', topic="devices/abcdef/heartbeat"),
    message(b"1", topic="elsewhere"),
    message(b"no\nJSON", retain=True),
    message(b"\xff\x00\n", dup=True),
    message(b'"\xc2\x9b2J"'),
    message(b"1", topic="elsewhere"),
)
WANTED_POSITIONS = [0, 1, 3, 4, 5]

every_format = pytest.mark.parametrize("chosen", Format)
anywhere = pytest.mark.parametrize("is_terminal", [False, True], ids=["to a program", "to a terminal"])


def wants(message: Message) -> bool:
    return message.topic != "elsewhere"


def test_each_module_that_has_a_renderer_is_a_format_and_each_format_such_a_module() -> None:
    folder = Path(str(plantops_cli.formats.__file__)).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    having = {name for name in modules if hasattr(import_module(f"plantops_cli.formats.{name}"), "renderer")}
    assert having == set(Format)


def test_no_format_is_loaded_to_offer_it() -> None:
    source = "import sys, plantops_cli.cli.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert not {f"plantops_cli.formats.{name}" for name in Format} & set(done.stdout.split())


@every_format
@anywhere
def test_a_batch_is_written_with_the_wanted_messages_and_the_invalid_counted(
    chosen: Format, *, is_terminal: bool
) -> None:
    data, shown, invalid = chosen.renderer(wants, is_terminal=is_terminal).render(SAMPLE, None)
    assert data.endswith(b"\n")
    assert (shown, invalid) == (5, 2)


@every_format
@anywhere
@pytest.mark.parametrize("limit", [None, 1, 2, 3, 4, 5, 6])
def test_each_message_ends_where_the_bytes_of_those_up_to_it_do(
    chosen: Format, limit: int | None, *, is_terminal: bool
) -> None:
    renderer = chosen.renderer(wants, is_terminal=is_terminal)
    data, shown, _ = renderer.render(SAMPLE, limit)
    ends = renderer.ends(SAMPLE, limit)
    assert ends[-1] == len(data)
    assert len(ends) == (len(SAMPLE) if shown != limit else WANTED_POSITIONS[shown - 1] + 1)
    for count, end in enumerate(ends, start=1):
        first = Batch([SAMPLE.reads[0]._replace(packets=SAMPLE.packets[:count])])
        assert renderer.render(first, limit)[0] == data[:end]


@every_format
def test_many_messages_at_once_end_where_they_do_one_by_one(chosen: Format) -> None:
    many = batch_of(*(replace(m, mid=n) for n in range(40) for m in SAMPLE))
    renderer = chosen.renderer(wants, is_terminal=False)
    data, _, _ = renderer.render(many, None)
    assert renderer.ends(many, None)[-1] == len(data)
