"""The front door: what a program may import from ``plantops_cli`` itself."""

import ast
import importlib
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import plantops_cli
from plantops_cli import MQTTSubscriber, SubscriberOptions, errors, testing
from plantops_cli.errors import PlantopsError
from plantops_cli.stream.status import Status

ROOT = Path(__file__).parent.parent
FRONT_DOOR = Path(plantops_cli.__file__)
PUBLIC = {name: getattr(plantops_cli, name) for name in plantops_cli.__all__}
DEFINED = [name for name, value in PUBLIC.items() if inspect.isclass(value) or inspect.isfunction(value)]


def imported_for_type_checkers() -> dict[str, str]:
    """The home of each name that type checkers see imported."""
    tree = ast.parse(FRONT_DOOR.read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: str(node.module).removeprefix("plantops_cli.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_the_public_names_are_those_of_the_lazy_table_and_of_type_checkers() -> None:
    assert sorted(plantops_cli.__all__) == plantops_cli.__all__ == sorted(plantops_cli._HOMES)
    assert imported_for_type_checkers() == plantops_cli._HOMES


@pytest.mark.parametrize("name", DEFINED)
def test_a_public_name_is_called_so_and_lives_where_the_table_says(name: str) -> None:
    assert PUBLIC[name].__name__ == name
    assert PUBLIC[name].__module__ == f"plantops_cli.{plantops_cli._HOMES[name]}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        plantops_cli.no_such_name  # noqa: B018  # looking it up is the test


def test_the_names_of_the_test_kit_have_a_door_of_their_own() -> None:
    # a function ``plantops_cli.testing`` would hide the room of that name
    assert sorted(testing.__all__) == testing.__all__
    assert all(getattr(testing, name).__module__.startswith("plantops_cli.testing.") for name in testing.__all__)


def test_every_error_is_public() -> None:
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert {name for name in classes if issubclass(vars(errors)[name], PlantopsError)} <= PUBLIC.keys()


def test_every_step_that_a_status_listener_is_told_is_public() -> None:
    assert {step.__name__ for step in typing.get_args(Status)} <= PUBLIC.keys()


def signatures(name: str) -> Iterator[Any]:
    """A public function, or a class with its public methods and properties."""
    value = PUBLIC[name]
    yield value
    if inspect.isclass(value):
        for label, member in vars(value).items():
            member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            # pydantic puts methods of its own into a class
            is_ours = isinstance(member, FunctionType) and member.__module__ == value.__module__
            if is_ours and (label == "__init__" or not label.startswith("_")):
                yield member


def names_of_ours(hint: object) -> Iterator[str]:
    """The classes of plantops that a type hint mentions; of aliases, what they stand for."""
    if isinstance(hint, list):  # the parameters of a Callable
        for part in hint:
            yield from names_of_ours(part)
    for part in typing.get_args(hint):
        yield from names_of_ours(part)
    kind = typing.get_origin(hint) or hint
    if inspect.isclass(kind) and kind.__module__.startswith("plantops_cli"):
        yield kind.__name__


@pytest.mark.parametrize("name", DEFINED)
def test_the_signatures_of_a_public_name_mention_public_names_only(name: str) -> None:
    home = vars(importlib.import_module(PUBLIC[name].__module__))
    # what a module imports for type checkers only
    foreign = {"FastAPI": object}
    mentioned = {
        ours
        for signature in signatures(name)
        for label, hint in inspect.get_annotations(
            signature, globals=home, locals=PUBLIC | foreign, eval_str=True
        ).items()
        if not label.startswith("_")
        for ours in names_of_ours(hint)
    }
    assert mentioned <= PUBLIC.keys()


@pytest.mark.parametrize(
    "path", ["README.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("examples/*.py"))]
)
def test_whatever_the_documentation_imports_is_public(path: str) -> None:
    imports = re.findall(r"^from plantops_cli[\w.]* import ([\w, ]+)", (ROOT / path).read_text(), re.MULTILINE)
    named = {name.strip() for names in imports for name in names.split(",")}
    assert named
    assert named <= {*PUBLIC, *testing.__all__}


def test_the_options_of_from_settings_are_the_keywords_of_the_constructor_that_settings_leave_open() -> None:
    hints = typing.get_type_hints(
        MQTTSubscriber.__init__, vars(importlib.import_module(MQTTSubscriber.__module__))
    )
    parameters = inspect.signature(MQTTSubscriber).parameters.values()
    keywords = {each.name for each in parameters if each.kind is each.KEYWORD_ONLY} - {"client_id", "tls"}
    assert typing.get_type_hints(SubscriberOptions) == {name: hints[name] for name in keywords}
