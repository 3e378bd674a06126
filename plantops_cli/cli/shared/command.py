"""From a frozen dataclass of flags to a command: its fields are what Typer reads, the command gets the dataclass.

Typer learns of the flags from a signature that is made here, for a function of its own. Nothing is merged into
the signature of another function, and no ``__wrapped__`` leads behind it: wherever Typer looks for parameters, it
finds these, and no positional word is lost between two lists of them.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin

import typer
from typer.models import ParameterInfo

from plantops_cli.cli.shared.flags.display import Debug
from plantops_cli.cli.shared.flags.parsed import Parsed
from plantops_cli.errors import PlantopsError

T = TypeVar("T")

Refusal = Callable[[PlantopsError, Mapping[str, Any]], int]
"""Told why flags are refused, and all of them raw by name; returns the exit code."""


@dataclass(frozen=True, slots=True)
class Only:
    """Stands beside a dataclass of flags inside another one: a command takes these of its flags, in this order.

    Args:
        names: the fields.
    """

    names: tuple[str, ...]


def command(*, on_refusal: Refusal | None = None) -> Callable[[Callable[[Any], None]], Callable[..., None]]:
    """Make a command out of a function of one frozen dataclass of flags; ``--debug`` is added to them.

    Where a field stands is where its flag stands in the help; a field that is a dataclass itself stands for all of
    its fields. What is not given has the default of its field.

    Args:
        on_refusal: answers for a command that has to say even that on standard output; None: the error is raised.
    """

    def decorate(function: Callable[[Any], None]) -> Callable[..., None]:
        [kind] = (one.annotation for one in inspect.signature(function).parameters.values())

        def run(**given: Any) -> None:
            try:
                flags = _build(kind, given)
            except PlantopsError as exc:
                if on_refusal is None:
                    raise
                raise typer.Exit(on_refusal(exc, given)) from exc
            function(flags)

        debug = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug)
        parameters = [*_parameters(kind), debug]
        run.__name__, run.__doc__, run.__module__ = function.__name__, function.__doc__, function.__module__
        # Typer reads the signature, and resolves annotations anew (0.29); both say the same
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # functions may have one
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def _fields(hint: Any) -> list[Field[Any]]:
    kind, beside = _split(hint)
    by_name = {field.name: field for field in fields(kind)}
    only = _first(beside, Only)
    return [by_name[name] for name in only.names] if only else list(by_name.values())


def _parameters(hint: Any) -> Iterator[inspect.Parameter]:
    for field in _fields(hint):
        if _is_nested(field):
            yield from _parameters(field.type)
        else:
            yield _parameter(field)


def _parameter(field: Field[Any]) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    annotation = field.type
    parsed = _first(_split(annotation)[1], Parsed)
    if parsed is not None:
        default, raw = _raw(parsed, default)
        annotation = Annotated[raw, *_split(annotation)[1]]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _raw(parsed: Parsed, default: Any) -> tuple[Any, Any]:
    """The default that Typer shows, and the type that it reads."""
    if default is inspect.Parameter.empty:
        return default, parsed.raw
    if default is None or default == ():
        return None, parsed.raw | None
    return parsed.show(default), parsed.raw


def _build(hint: Any, given: Mapping[str, Any]) -> Any:
    """Make the dataclass of what Typer has read; reading and checking raise what they have against it."""
    values = {}
    for field in _fields(hint):
        if _is_nested(field):
            values[field.name] = _build(field.type, given)
        elif given[field.name] is not None and given[field.name] != []:
            values[field.name] = _value(field, given[field.name])
    return _split(hint)[0](**values)


def _value(field: Field[Any], raw: Any) -> Any:
    _, beside = _split(field.type)
    parsed = _first(beside, Parsed)
    return raw if parsed is None else parsed.read(raw, _flag_name(_first(beside, ParameterInfo)))


def _flag_name(info: ParameterInfo | None) -> str:
    """The long name of a flag; beside a type the first of its names stands where else the default does."""
    names = (info.default, *(info.param_decls or ())) if info else ()
    return str(names[-1])


def _is_nested(field: Field[Any]) -> bool:
    return is_dataclass(_split(field.type)[0])


def _split(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type, and what stands beside it in ``Annotated``."""
    if get_origin(hint) is not Annotated:
        return hint, ()
    kind, *beside = get_args(hint)
    return kind, tuple(beside)


def _first(beside: tuple[Any, ...], kind: type[T]) -> T | None:
    return next((one for one in beside if isinstance(one, kind)), None)
