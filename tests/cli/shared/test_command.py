"""A dataclass of flags becomes a command: each word of a command line arrives in its field, or is refused."""

import dataclasses
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer

from plantops_cli.cli.shared.command import Only, command
from plantops_cli.cli.shared.flags.parsed import DURATION, MANY, Parsed, naming
from plantops_cli.errors import ConfigError, PlantopsError
from tests.support.command_line import read

Words = Annotated[tuple[str, ...], MANY, typer.Argument()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something is."""

    host: Annotated[str | None, typer.Option("-h", "--host")] = None
    port: Annotated[int, typer.Option("-p", "--port")] = 1883
    is_safe: Annotated[bool, typer.Option("--safe")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Arguments, options, and another dataclass between them."""

    name: Annotated[str | None, typer.Argument()] = None
    rest: Words = ()
    place: Place = Place()
    within_seconds: Annotated[float, DURATION, typer.Option("-w", "--within")] = 60.0
    tags: Annotated[tuple[str, ...], MANY, typer.Option("--tag")] = ()
    path: Annotated[Path | None, typer.Option("--path")] = None

    def __post_init__(self) -> None:
        if self.path is not None and self.tags:
            raise ConfigError("--path and --tag contradict each other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrow:
    """Two flags of another dataclass, in an order of their own."""

    place: Annotated[Place, Only(("is_safe", "host"))] = Place()


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ((), Flags()),
        (("a",), Flags(name="a")),
        (("a", "b", "c"), Flags(name="a", rest=("b", "c"))),
        (("-p", "1884", "a", "-h", "h", "b"), Flags(name="a", rest=("b",), place=Place(host="h", port=1884))),
        (("--tag", "x", "a", "--tag", "y"), Flags(name="a", tags=("x", "y"))),
        (("--", "-p", "--tag"), Flags(name="-p", rest=("--tag",))),
        (("a", "--safe", "b"), Flags(name="a", rest=("b",), place=Place(is_safe=True))),
        (("--within", "1.5h"), Flags(within_seconds=5_400)),
        (("-w250ms", "a"), Flags(name="a", within_seconds=0.25)),
        (("--path", "a/b"), Flags(path=Path("a/b"))),
        (("a", "--debug"), Flags(name="a")),
    ],
    ids=str,
)
def test_each_word_arrives_in_its_field(arguments: tuple[str, ...], flags: Flags) -> None:
    assert read(Flags, *arguments) == flags


def test_an_argument_without_a_default_has_to_be_given() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Needy:
        words: Words

    assert read(Needy, "a", "b") == Needy(words=("a", "b"))
    with pytest.raises(typer.TyperException, match="words"):
        read(Needy)


def test_a_command_may_take_some_flags_of_a_dataclass_only() -> None:
    assert read(Narrow, "--safe", "-h", "h") == Narrow(place=Place(is_safe=True, host="h"))
    with pytest.raises(typer.TyperException, match="-p"):
        read(Narrow, "-p", "1884")


def test_a_dataclass_that_extends_another_may_have_its_own_default() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Elsewhere(Place):
        port: Annotated[int, typer.Option("-p", "--port")] = 8883

    assert read(Elsewhere) == Elsewhere(port=8883)
    assert [field.name for field in dataclasses.fields(Elsewhere)] == ["host", "port", "is_safe"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--within", "soon"), "--within 'soon': no time above 0"),
        (("-w", "soon"), "--within 'soon': no time above 0"),
        (("--tag", "x", "--path", "p"), "--path and --tag contradict each other"),
    ],
)
def test_what_makes_no_sense_is_refused_by_the_name_of_its_flag(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(Flags, *arguments)
    assert str(refused.value) == said


def test_a_command_that_answers_refusals_itself_is_told_of_what_was_typed() -> None:
    told = []

    def answer(error: PlantopsError, given: object) -> int:
        told.append((str(error), given))
        return 3

    @command(on_refusal=answer)
    def never(flags: Flags) -> None:
        raise AssertionError

    program = typer.Typer()
    program.command()(never)
    code = typer.main.get_command(program).main(["--within", "0", "a"], standalone_mode=False)
    [(said, given)] = told
    assert (code, said) == (3, "--within '0': no time above 0")
    assert isinstance(given, dict)
    assert (given["within_seconds"], given["name"], given["port"]) == ("0", "a", 1883)


def test_typer_finds_the_same_parameters_wherever_it_looks() -> None:
    @command()
    def made(flags: Flags) -> None:
        """Do it."""

    parameters = inspect.signature(made).parameters
    names = ["name", "rest", "host", "port", "is_safe", "within_seconds", "tags", "path", "debug"]
    assert list(parameters) == names
    assert {name: one.annotation for name, one in parameters.items()} == inspect.get_annotations(made)
    assert not hasattr(made, "__wrapped__")
    assert (made.__name__, made.__doc__) == ("made", "Do it.")


def test_a_default_is_shown_as_it_would_be_typed() -> None:
    @command()
    def made(flags: Flags) -> None:
        raise AssertionError

    assert inspect.signature(made).parameters["within_seconds"].default == "60s"


def test_two_flags_of_one_name_are_a_mistake_of_ours() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Twice:
        host: Annotated[str | None, typer.Option("--other")] = None
        place: Place = Place()

    def two(flags: Twice) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match="host"):
        command()(two)


def test_a_parser_that_knows_no_flag_is_given_its_name() -> None:
    def parse(text: str) -> int:
        raise ConfigError(f"{text!r}: no number", hint="for example 1")

    with pytest.raises(ConfigError, match=r"^--many 'x': no number$") as refused:
        Parsed(naming(parse)).read("x", "--many")
    assert refused.value.hint == "for example 1"
