"""What can be known of whatever can be called."""

import asyncio
import functools
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from queue import Queue
from typing import Annotated, Any, NewType, Optional, Union
from unittest.mock import AsyncMock, Mock

import pytest

from plantops_cli.errors import ConfigError
from plantops_cli.messages import Message
from plantops_cli.stream.handling.parameters import (
    is_coroutine_function,
    is_generator_function,
    is_message,
    kinds_of,
    name_of,
    parameters_of,
)

Name = NewType("Name", str)


def hands_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return inner


def hands_on_keywords(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(**kwargs: object) -> object:
        return function(**kwargs)

    return inner


def takes_one(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(message: Message) -> object:
        return function(message, "session")

    return inner


def plain(reading: int, device_id: str = "none") -> None: ...


async def waited(reading: int, device_id: str = "none") -> None: ...


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class Methods:
    def method(self, reading: int) -> None: ...

    @hands_on
    async def decorated(self, reading: "int") -> None: ...

    @classmethod
    def of_class(cls, reading: int) -> None: ...

    @staticmethod
    def static(reading: int) -> None: ...


class Called:
    async def __call__(self, reading: "int") -> None: ...


class CalledThroughDecorator:
    @hands_on
    async def __call__(self, reading: "int") -> None: ...


class GeneratorCalled:
    def __call__(self) -> Iterator[int]:
        yield 1


def annotations(handler: Callable[..., object]) -> dict[str, object]:
    return {each.name: each.annotation for each in parameters_of(handler) or ()}


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (plain, "plain"),
        (functools.partial(functools.partial(plain, 1)), "plain"),
        (hands_on(plain), "plain"),
        (Methods().method, "Methods.method"),
        (Called(), "Called"),
        (Methods, "Methods"),
        ([].append, "list.append"),
    ],
)
def test_a_handler_is_called_by_its_own_name(handler: Callable[..., object], name: str) -> None:
    assert name_of(handler) == name


@pytest.mark.parametrize(
    "handler",
    [
        waited,
        functools.partial(waited, 1),
        hands_on(waited),
        hands_on(hands_on(waited)),
        Methods().decorated,
        Called(),
        Called().__call__,
        CalledThroughDecorator(),
        functools.partial(Called(), 1),
        AsyncMock(),
        asyncio.Queue[Message]().put,
        functools.lru_cache(waited),
    ],
)
def test_a_coroutine_function_is_known_under_whatever_lies_over_it(handler: Callable[..., object]) -> None:
    assert is_coroutine_function(handler)


@pytest.mark.parametrize(
    "handler",
    [
        plain,
        functools.partial(plain, 1),
        hands_on(plain),
        Methods().method,
        Methods,
        Called,
        Mock(),
        [].append,
        print,
        lambda message: None,
        Queue[Message]().put_nowait,
        asyncio.Queue[Message]().put_nowait,
        generator,
    ],
)
def test_any_other_handler_is_no_coroutine_function(handler: Callable[..., object]) -> None:
    assert not is_coroutine_function(handler)


@pytest.mark.parametrize(
    "handler",
    [generator, async_generator, functools.partial(generator), GeneratorCalled(), GeneratorCalled().__call__],
)
def test_a_generator_function_is_known_as_one(handler: Callable[..., object]) -> None:
    assert is_generator_function(handler)


@pytest.mark.parametrize("handler", [plain, waited, Called(), [].append, int, Mock()])
def test_what_yields_nothing_is_no_generator_function(handler: Callable[..., object]) -> None:
    assert not is_generator_function(handler)


@pytest.mark.parametrize(
    "handler",
    [
        Methods().method,
        Methods().decorated,
        Methods.of_class,
        Methods.static,
        Called(),
        CalledThroughDecorator(),
        functools.partial(plain, device_id="a"),
        lambda reading: None,
    ],
)
def test_only_what_is_left_to_be_given_is_a_parameter(handler: Callable[..., object]) -> None:
    required = [each.name for each in parameters_of(handler) or () if each.default is each.empty]
    assert required == ["reading"]


@pytest.mark.parametrize("handler", [Methods().method, Methods().decorated, Called(), CalledThroughDecorator()])
def test_annotations_are_resolved_wherever_the_function_hides(handler: Callable[..., object]) -> None:
    assert annotations(handler) == {"reading": int}


def test_a_decorator_that_takes_anything_has_the_parameters_of_what_it_wraps() -> None:
    assert annotations(hands_on(hands_on(plain))) == annotations(plain) == {"reading": int, "device_id": str}


def test_a_decorator_that_hands_on_keywords_only_is_given_keywords() -> None:
    kinds = {each.kind for each in parameters_of(hands_on_keywords(plain)) or ()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


def test_a_decorator_with_parameters_of_its_own_has_those() -> None:
    assert list(annotations(takes_one(plain))) == ["message"]


@pytest.mark.parametrize("handler", [int, type])
def test_of_some_builtins_nobody_can_know_the_parameters(handler: Callable[..., object]) -> None:
    assert not parameters_of(handler)


def test_a_class_has_the_parameters_of_its_init() -> None:
    class Stored:
        def __init__(self, reading: "int") -> None: ...

    assert annotations(Stored) == {"reading": int}


def test_an_annotation_may_name_what_is_local_to_the_functions_around() -> None:
    class Outer: ...

    def around() -> Callable[..., object]:
        class Inner: ...

        def handle(outer: "Outer", inner: "list[Inner]", both: "Inner | None", message: "Message") -> None: ...

        assert annotations(handle) == {
            "outer": Outer,
            "inner": list[Inner],
            "both": Inner | None,
            "message": Message,
        }
        return handle

    around()


def test_an_annotation_may_name_what_the_function_uses_when_the_ones_around_have_ended() -> None:
    def around() -> Callable[..., object]:
        class Inner: ...

        def handle(inner: "Inner") -> object:
            return Inner

        return handle

    inner: Any = annotations(around())["inner"]
    assert inner.__qualname__.endswith("around.<locals>.Inner")


def test_what_a_stranger_has_in_a_function_of_the_same_name_is_not_taken_for_it() -> None:
    def handle(inner: "Inner") -> None: ...  # type: ignore[name-defined]  # noqa: F821  # that is what is tested

    with pytest.raises(ConfigError, match=r"handler test_.*handle: parameter 'inner': 'Inner' cannot be resolved"):
        parameters_of(handle)


@pytest.mark.parametrize("text", ["Nowhere", "list[", "1 + ", "Nowhere.x", "sys.nowhere", "1 / 0"])
def test_an_annotation_that_cannot_be_resolved_is_refused_by_the_name_of_its_parameter(text: str) -> None:
    def handle(message: Message, reading: int) -> None: ...

    handle.__annotations__["reading"] = text
    with pytest.raises(ConfigError, match=r"parameter 'reading': .* cannot be resolved") as refused:
        parameters_of(handle)
    assert refused.value.hint


@pytest.mark.parametrize("text", ["MessageOfTomorrow", "nowhere.MessageOfTomorrow"])
def test_only_the_name_of_message_needs_no_import(text: str) -> None:
    def handle(message: int) -> None: ...

    handle.__annotations__["message"] = text
    with pytest.raises(ConfigError):
        parameters_of(handle)
    handle.__annotations__["message"] = text.removesuffix("OfTomorrow")
    assert annotations(handle) == {"message": Message}


@pytest.mark.parametrize(
    "annotation",
    [
        Message,
        Message | None,
        Optional[Message],  # noqa: UP045  # old, and no union to isinstance
        Union[Message, int],  # noqa: UP007  # old, too
        Annotated[Message, "x"],
        Annotated[Message | None, "x"],
        NewType("MyMessage", Message),
    ],
)
def test_a_message_is_known_by_its_type(annotation: object) -> None:
    assert is_message(annotation)


@pytest.mark.parametrize("annotation", [int, Any, object, None, list[Message], "Message", inspect.Parameter.empty])
def test_what_is_not_a_message_is_not_taken_for_one(annotation: object) -> None:
    assert not is_message(annotation)


def test_an_annotation_is_taken_apart_to_its_types() -> None:
    assert list(kinds_of(Annotated[int | None, 1] | list[str] | Name)) == [int, list[str], str]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="aliases are a statement since Python 3.12")
def test_an_alias_is_what_it_stands_for_and_a_type_parameter_has_a_name() -> None:
    names: dict[str, Any] = {"Message": Message}
    exec("type Alias = Message | None\ndef handle[T](message: 'Alias', t: 'T') -> None: ...", names)
    assert is_message(names["Alias"])
    found = annotations(names["handle"])
    assert found == {"message": names["Alias"], "t": names["handle"].__type_params__[0]}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="aliases are a statement since Python 3.12")
def test_an_alias_of_what_does_not_exist_is_refused_by_the_name_of_its_parameter() -> None:
    names: dict[str, Any] = {}
    exec("type Alias = Nowhere | None\ndef handle(reading: Alias) -> None: ...", names)
    with pytest.raises(ConfigError, match=r"parameter 'reading': .* cannot be resolved"):
        parameters_of(names["handle"])
