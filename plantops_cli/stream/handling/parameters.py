"""What a handler may be called with: its parameters, and the types that they are annotated with.

Pure: whatever can be called is looked at, and never called.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from types import FrameType, FunctionType, NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from plantops_cli.errors import ConfigError
from plantops_cli.messages import Message

Parameter = inspect.Parameter

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def name_of(handler: object) -> str:
    """Return what a handler is called in logs and errors."""
    named = handler.func if isinstance(handler, functools.partial) else handler
    return str(getattr(named, "__qualname__", type(named).__qualname__))


def is_coroutine_function(handler: Callable[..., object]) -> bool:
    """Tell whether the handler, its ``__call__`` or the function that its decorator wraps is an ``async def``."""
    first = inspect.unwrap(handler, stop=inspect.iscoroutinefunction)
    called = inspect.unwrap(_called(first), stop=inspect.iscoroutinefunction)
    return inspect.iscoroutinefunction(first) or inspect.iscoroutinefunction(called)


def is_generator_function(handler: Callable[..., object]) -> bool:
    """Tell whether calling a handler would do nothing yet, for it is a generator, asynchronous or not."""
    called = _called(handler)
    return inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)


def parameters_of(handler: Callable[..., object]) -> list[Parameter] | None:
    """Return the parameters of a handler with their annotations resolved; None when nobody can know them.

    A decorator that takes any arguments is taken for one that hands them on, so that the parameters are those of
    the function which it wraps; else they are those of the decorator.

    Raises:
        ConfigError: an annotation names what does not exist where the handler was defined.
    """
    try:
        own, shown = inspect.signature(handler, follow_wrapped=False), inspect.signature(handler)
    except NameError as exc:  # annotations are evaluated on demand since Python 3.14
        raise ConfigError(f"handler {name_of(handler)}: an annotation cannot be resolved: {exc}") from exc
    except (TypeError, ValueError):
        return None
    kinds = {parameter.kind for parameter in own.parameters.values()}
    found = list((own if kinds.isdisjoint(VARIADIC) else shown).parameters.values())
    if Parameter.VAR_KEYWORD in kinds and Parameter.VAR_POSITIONAL not in kinds:
        found = [_by_keyword(parameter, own) for parameter in found]
    names = _Names(_source(handler))
    return [_resolved(parameter, names, name_of(handler)) for parameter in found]


def is_message(annotation: object) -> bool:
    """Tell whether an annotation says ``Message``, or a union with it."""
    return Message in kinds_of(annotation)


def kinds_of(annotation: object) -> Iterator[object]:
    """Yield what an annotation may be: the members of a union but None, without metadata, alias or new name."""
    if get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from kinds_of(member)
    elif get_origin(annotation) is Annotated:
        yield from kinds_of(get_args(annotation)[0])
    elif (inner := _named_by(annotation)) is not None:
        yield from kinds_of(inner)
    elif annotation is not NoneType:
        yield annotation


def _named_by(annotation: object) -> object:
    """What ``type X = ...`` or a NewType stands for."""
    return getattr(annotation, "__value__", None) or getattr(annotation, "__supertype__", None)


class _Names:
    """The names that the annotations of a function may use: of its module, and of the functions around it."""

    def __init__(self, source: object) -> None:
        module = sys.modules.get(getattr(source, "__module__", None) or "")
        of_module = getattr(source, "__globals__", None) or (vars(module) if module else {})
        self.of_module: dict[str, Any] = of_module
        around = _around(source) if isinstance(source, FunctionType) else {}
        type_parameters = getattr(source, "__type_params__", ())
        self.around = around | {each.__name__: each for each in type_parameters}


def _around(function: FunctionType) -> dict[str, Any]:
    """What the functions around one have by name, as far as it is kept or they still run."""
    names: dict[str, Any] = {}
    outer = function.__qualname__.split(".<locals>")[:-1]
    running = {".<locals>".join(outer[: depth + 1]) for depth in range(len(outer))}
    frame: FrameType | None = inspect.currentframe()
    while frame is not None and running:
        if frame.f_code.co_qualname in running and frame.f_globals is function.__globals__:
            names = frame.f_locals | names  # the inner ones come first, and hide the outer ones
        frame = frame.f_back
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return names


def _resolved(parameter: Parameter, names: _Names, handler: str) -> Parameter:
    annotation = parameter.annotation
    if annotation is Parameter.empty or parameter.kind in VARIADIC:
        return parameter

    def carrier() -> None: ...

    carrier.__annotations__ = {"it": annotation}
    try:
        hint = get_type_hints(carrier, names.of_module, names.around, include_extras=True)["it"]
        list(kinds_of(hint))  # for `type X = ...` is evaluated only when it is looked into
    except Exception as exc:  # an annotation is any expression, and may raise anything
        # often imported for type checkers only
        if isinstance(annotation, str) and annotation.rpartition(".")[2] == Message.__name__:
            return parameter.replace(annotation=Message)
        raise ConfigError(
            f"handler {handler}: parameter {parameter.name!r}: {annotation!r} cannot be resolved: {exc}",
            hint="import what it names outside of TYPE_CHECKING, or define it before the handler is registered",
        ) from exc
    return parameter.replace(annotation=hint)


def _by_keyword(parameter: Parameter, own: inspect.Signature) -> Parameter:
    """A parameter as a decorator takes it that hands on keywords only."""
    if parameter.kind is not Parameter.POSITIONAL_OR_KEYWORD or parameter.name in own.parameters:
        return parameter
    return parameter.replace(kind=Parameter.KEYWORD_ONLY)


def _called(handler: Any) -> Any:
    """The function that runs when a handler is called; the handler itself where there is none."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if inspect.isroutine(handler) or isinstance(handler, type):
        return handler
    call = type(handler).__call__
    return call if inspect.isfunction(call) else handler


def _source(handler: Callable[..., object]) -> object:
    """The function that the annotations of a handler were written in."""
    found = inspect.unwrap(_called(inspect.unwrap(handler)))
    if isinstance(found, type):
        found = found.__init__  # type: ignore[misc]  # only looked at
    return getattr(found, "__func__", found)
