"""What a handler is called with: the message itself, or what its parameters ask for by name and type.

Pure, and all that can be wrong with a handler is said when it is bound; only then is pydantic imported, and only
for a handler that needs it.

    payload --> bytes, str, or one compiled validator of JSON --.
    topic ----> captures, converted once for each topic --------+--> the arguments, in the order of the parameters
    message ----------------------------------------------------'
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from difflib import get_close_matches
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeGuard, get_origin

from plantops_cli.errors import ConfigError, PayloadError
from plantops_cli.messages import Message
from plantops_cli.stream.handling.parameters import (
    POSITIONAL,
    VARIADIC,
    Parameter,
    is_coroutine_function,
    is_generator_function,
    is_message,
    kinds_of,
    name_of,
    parameters_of,
)
from plantops_cli.stream.packets import LONGEST_TOPIC_KEPT
from plantops_cli.topics import Pattern

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

_Role: TypeAlias = Literal["message", "payload", "capture"]
_Read: TypeAlias = Callable[[bytes], object]
_Make: TypeAlias = Callable[[list[str]], object]
_Known: TypeAlias = Mapping[str, Mapping[str, Any]]

# who publishes chooses the topics, and so could fill our memory with what they capture
_TOPICS_KEPT = 10_000
# nor may a payload have our time with what is wrong with it
_ERRORS_KEPT, _ERRORS_LISTED, _CHARACTERS_SHOWN = 20, 1_000, 200
_EMPTY = Parameter.empty
_HINT = "annotate it with a pydantic model, a dataclass, a TypedDict or what they are made of"
_BUILTIN = (dict, frozenset, list, set, tuple)
# the schemas of pydantic that have parts
_OF_PARTS = {
    "dataclass",
    "dict",
    "frozenset",
    "generator",
    "list",
    "set",
    "tagged-union",
    "tuple",
    "typed-dict",
}


@dataclass(frozen=True, slots=True)
class Binding:
    """A handler, and how to call it with a message.

    Attributes:
        handler: the handler as it was given.
        call: calls it, and returns what it returns, which may have to be awaited; raises a PayloadError, whose
            ``handler`` is the name below, instead of calling it with what does not fit. It is the handler itself
            where that takes the message and nothing else.
        name: what it is called in logs.
        is_async: whether it is a coroutine function.
        payload_type: the annotation of the parameter that takes the payload, or None when there is none.
    """

    handler: Callable[..., object]
    call: Callable[[Message], object]
    name: str
    is_async: bool
    payload_type: Any = None


def bind(handler: Callable[..., object], pattern: Pattern) -> Binding:
    """Find out what a handler takes, and how to make it of a message.

    The message goes to a parameter that is annotated ``Message``, or to the only one that is to be filled if it
    has no annotation; what the pattern captures to the parameters of these names; the payload to the one that is
    left: raw as ``bytes``, as UTF-8 text as ``str``, and as JSON of any other type. A parameter with a default is
    left alone, but for a model or the like that is None by default: it takes the payload, None if that is empty.

    Args:
        handler: a function, a coroutine function, or anything else that can be called.
        pattern: of the topics whose messages it gets.

    Raises:
        ConfigError: it cannot be called with a message of that pattern; the text names the parameter.
    """
    if not callable(handler):
        kind = type(handler).__qualname__
        raise ConfigError(
            f"a handler of type {kind} cannot be called", hint="give the function, without calling it"
        )
    name = name_of(handler)
    if is_generator_function(handler):
        raise ConfigError(f"handler {name} is a generator, which is not run by a call", hint="use no yield in it")
    parameters = parameters_of(handler)
    if parameters is None and isinstance(handler, type):
        raise ConfigError(f"handler {name} is a class of unknown parameters", hint="wrap it in a function")
    bound = partial(Binding, handler, name=name, is_async=is_coroutine_function(handler))
    roles = {} if parameters is None else _roles(parameters, pattern, name)
    if parameters is None or _is_as_ever(parameters, roles):
        return bound(call=handler)
    if parameters and not roles:
        raise ConfigError(
            f"handler {name}: no parameter takes anything of a message",
            hint="leave out the default of the one that is to take the payload, or annotate one as Message",
        )
    payload = next((each for each in parameters if roles.get(each.name) == "payload"), None)
    call = _call(handler, _plan(parameters, roles, pattern, name), name)
    return bound(call=call, payload_type=payload and payload.annotation)


# Who is filled with what


def _roles(parameters: Sequence[Parameter], pattern: Pattern, handler: str) -> dict[str, _Role]:
    """What each parameter is filled with, by its name; those that are missing keep their defaults."""
    named = [parameter for parameter in parameters if parameter.kind not in VARIADIC]
    roles: dict[str, _Role] = {
        each.name: "message" if is_message(each.annotation) else "capture"
        for each in named
        if is_message(each.annotation) or each.name in pattern.names
    }
    rest = [parameter for parameter in named if parameter.name not in roles]
    needed = [parameter for parameter in rest if parameter.default is _EMPTY]
    bare = next((parameter.name for parameter in needed if parameter.annotation is _EMPTY), None)
    if bare is not None and len(needed) == 1 and not roles:
        return {bare: "message"}
    if bare is not None:
        raise ConfigError(
            f"handler {handler}: nothing tells what parameter {bare!r} is to be filled with",
            hint="annotate it as Message, or with the type of the payload, or name it in the pattern",
        )
    takers = needed or [parameter for parameter in rest if _may_take_payload(parameter)]
    if len(takers) > 1:
        raise ConfigError(
            f"handler {handler}: only one parameter takes the payload, not both "
            f"{takers[0].name!r} and {takers[1].name!r}",
            hint=f"name what stands in the topic, for example devices/{{{takers[1].name}}}/telemetry",
        )
    for taker in takers:
        _check_spelling(taker, [name for name in pattern.names if name not in roles], handler)
    return roles | {each.name: "payload" for each in takers}


def _check_spelling(taker: Parameter, unused: Sequence[str], handler: str) -> None:
    """Refuse what looks like a slip: a parameter of one value that is called nearly as a level of the topic."""
    near = get_close_matches(taker.name, unused, 1, 0.85)
    if near and not any(map(_has_parts, kinds_of(taker.annotation))):
        raise ConfigError(
            f"handler {handler}: parameter {taker.name!r} would take the payload; did you mean {near[0]!r}?",
            hint="call it as the pattern does, or quite differently",
        )


def _may_take_payload(parameter: Parameter) -> bool:
    """Whether a parameter with a default means the payload: a record, or None when there is none."""
    is_typed = parameter.default is None and parameter.annotation is not _EMPTY
    return is_typed and any(map(_has_parts, kinds_of(parameter.annotation)))


def _is_as_ever(parameters: Sequence[Parameter], roles: Mapping[str, _Role]) -> bool:
    """Whether a handler is called with the message, its first argument, and nothing else."""
    first = next((each for each in parameters if each.kind in (*POSITIONAL, Parameter.VAR_POSITIONAL)), None)
    if first is None:
        return False
    return roles == {first.name: "message"} or (not roles and first.annotation is _EMPTY)


def _has_parts(kind: object) -> bool:
    """Whether a type is a model or a collection."""
    if is_dataclass(kind) or hasattr(kind, "__pydantic_validator__"):
        return True
    origin = get_origin(kind) or kind  # a TypedDict is a dict, too
    return isinstance(origin, type) and (issubclass(origin, _BUILTIN) or origin.__module__ == "collections.abc")


# How it is filled


class _Plan(NamedTuple):
    """How the arguments come about.

    Attributes:
        read: makes a value of the payload; any exception means that it does not fit.
        makers: make a value of the levels of the topic, each with its name; any exception means the same.
        positional: which of the payload, the message and the made values are the positional arguments, counted.
        keywords: the same for those that are given by name.
    """

    read: _Read
    makers: tuple[tuple[str, _Make], ...]
    positional: tuple[int, ...]
    keywords: dict[str, int]


_PAYLOAD, _MESSAGE, _FIRST_MADE = range(3)


def _plan(parameters: Sequence[Parameter], roles: Mapping[str, _Role], pattern: Pattern, handler: str) -> _Plan:
    positions = dict(zip(pattern.names, pattern.positions, strict=True))
    read: _Read = bytes
    makers: list[tuple[str, _Make]] = []
    sources: dict[str, int] = {}
    for parameter in _up_to_last(parameters, roles):
        role = roles.get(parameter.name)
        if role == "message":
            sources[parameter.name] = _MESSAGE
        elif role == "payload":
            read = _payload_reader(parameter, handler)
            sources[parameter.name] = _PAYLOAD
        else:
            make = _capture_maker(parameter, positions[parameter.name], handler) if role else _constant(parameter)
            sources[parameter.name] = _FIRST_MADE + len(makers)
            makers.append((parameter.name, make))
    positional = [each.name for each in parameters if each.kind in POSITIONAL and each.name in sources]
    keywords = {name: source for name, source in sources.items() if name not in positional}
    return _Plan(read, tuple(makers), tuple(sources[name] for name in positional), keywords)


def _up_to_last(parameters: Sequence[Parameter], roles: Mapping[str, _Role]) -> Iterable[Parameter]:
    """The parameters that are given: those with a role, and the positional ones before them."""
    given = [at for at, each in enumerate(parameters) if each.kind in POSITIONAL and each.name in roles]
    last = max(given, default=-1)
    return [each for at, each in enumerate(parameters) if each.name in roles or at < last]


def _constant(parameter: Parameter) -> _Make:
    return lambda _: parameter.default


def _capture_maker(parameter: Parameter, position: int, handler: str) -> _Make:
    annotation = parameter.annotation
    if annotation in (_EMPTY, str):
        return itemgetter(position)
    adapter = _adapter(parameter, handler)
    if _needs_parts(adapter.core_schema, {}):
        raise _unfit(
            parameter,
            handler,
            "cannot be made of the text that the pattern captures",
            "annotate it with a type of one value, such as str, int or UUID",
        )
    validate = adapter.validator.validate_python
    return lambda levels: validate(levels[position])


def _payload_reader(parameter: Parameter, handler: str) -> _Read:
    read = _reader(parameter, handler)
    if parameter.default is _EMPTY:
        return read
    return lambda payload: read(payload) if payload else parameter.default


def _reader(parameter: Parameter, handler: str) -> _Read:
    annotation = parameter.annotation
    if annotation is bytes:
        return bytes
    if annotation is str:
        return bytes.decode
    adapter, kinds = _adapter(parameter, handler), list(kinds_of(annotation))
    if kinds == [bytes]:
        return adapter.validator.validate_python
    if kinds == [str]:
        return lambda payload: adapter.validator.validate_python(payload.decode())
    if obstacle := _obstacle(adapter.core_schema, {}):
        raise _unfit(parameter, handler, f"cannot be made of JSON: {obstacle}")
    return adapter.validator.validate_json


def _adapter(parameter: Parameter, handler: str) -> "TypeAdapter[object]":
    from pydantic import TypeAdapter

    try:
        adapter: TypeAdapter[object] = TypeAdapter(parameter.annotation)
        if not getattr(adapter, "pydantic_complete", True):  # since pydantic 2.10; before, this was an error
            adapter.rebuild()
    except Exception as exc:  # of pydantic, or of whatever the type does when a validator is built of it
        why = (str(exc) or type(exc).__name__).partition("\n")[0]
        raise _unfit(parameter, handler, f"has no validator: {why}") from exc
    return adapter


def _unfit(parameter: Parameter, handler: str, why: str, hint: str = _HINT) -> ConfigError:
    shown = inspect.formatannotation(parameter.annotation)[:_CHARACTERS_SHOWN]
    return ConfigError(f"handler {handler}: parameter {parameter.name!r}: {shown} {why}", hint=hint)


def _needs_parts(schema: Mapping[str, Any], known: _Known) -> bool:
    """Whether a type is made of several values, and never of one text."""
    match schema["type"]:
        case "nullable" | "default":
            return _needs_parts(schema["schema"], known)
        case "model":
            return not schema.get("root_model")
        case "definitions" | "definition-ref" | "json-or-python":
            return any(_needs_parts(*inner) for inner in _referred(schema, known))
        case kind:
            return kind in _OF_PARTS


def _obstacle(schema: Mapping[str, Any], known: _Known) -> str | None:
    """Say what in a type no JSON can be, although it has to be there; None when nothing is known of the kind."""
    match schema["type"]:
        case "callable" | "is-instance" | "is-subclass":
            return "it takes objects of Python only"
        case "model" | "dataclass":
            return _obstacle(schema["schema"], known)
        case "definitions" | "definition-ref" | "json-or-python":
            return next((_obstacle(*inner) for inner in _referred(schema, known)), None)
        case "model-fields" | "typed-dict":
            fields = dict(schema["fields"])
        case "dataclass-args":
            fields = {each["name"]: each for each in schema["fields"] if each.get("init", True)}
        case _:
            return None
    for name, field in fields.items():
        if field.get("required", True) and (found := _obstacle(field["schema"], known)):
            return found if found.startswith("field ") else f"field {name!r}: {found}"
    return None


def _referred(schema: Mapping[str, Any], known: _Known) -> Iterator[tuple[Mapping[str, Any], _Known]]:
    """The schema that another one stands for, with those that are known by name; none where there is a circle."""
    match schema["type"]:
        case "definitions":
            yield schema["schema"], {each["ref"]: each for each in schema["definitions"]}
        case "json-or-python":
            yield schema["json_schema"], known
        case _ if (name := schema["schema_ref"]) in known:
            yield known[name], {ref: each for ref, each in known.items() if ref != name}


# How it is called


def _call(handler: Callable[..., object], plan: _Plan, name: str) -> Callable[[Message], object]:
    """The function that makes the arguments of a message, and calls the handler with them."""
    _check_taken(handler, plan, name)
    take = _by_keyword(handler, plan) if plan.keywords else handler
    sources = (*plan.positional, *plan.keywords.values())
    return _simple_call(take, plan.read, name) if sources == (_PAYLOAD,) else _full_call(take, plan, name)


def _check_taken(handler: Callable[..., object], plan: _Plan, name: str) -> None:
    """Refuse a handler whose decorator does not take what the function that it wraps does."""
    try:
        inspect.signature(handler, follow_wrapped=False).bind(*plan.positional, **plan.keywords)
    except TypeError as exc:
        raise ConfigError(f"handler {name}: its decorator does not hand on its parameters: {exc}") from exc


def _by_keyword(handler: Callable[..., object], plan: _Plan) -> Callable[..., object]:
    names, first = tuple(plan.keywords), len(plan.positional)

    def take(*values: object) -> object:
        return handler(*values[:first], **dict(zip(names, values[first:], strict=True)))

    return take


def _simple_call(handler: Callable[..., object], read: _Read, name: str) -> Callable[[Message], object]:
    def call(message: Message) -> object:
        try:
            value = read(message.payload)
        except Exception as exc:  # of pydantic, or of a validator of the model's own, which may raise anything
            raise _refusal(message.topic, exc, name) from _cause(exc)
        try:
            return handler(value)
        except PayloadError as exc:
            exc.handler = None
            raise

    return call


def _full_call(handler: Callable[..., object], plan: _Plan, name: str) -> Callable[[Message], object]:
    read, pick = plan.read, _pick((*plan.positional, *plan.keywords.values()))
    kept: dict[str, tuple[object, ...]] = {}

    def call(message: Message) -> object:
        topic = message.topic
        made = kept.get(topic)
        if made is None:
            made = _made(topic, plan.makers, name)
            _keep(kept, topic, made)
        try:
            value = read(message.payload)
        except Exception as exc:
            raise _refusal(topic, exc, name) from _cause(exc)
        try:
            return handler(*pick((value, message, *made)))
        except PayloadError as exc:
            exc.handler = None
            raise

    return call


def _pick(sources: tuple[int, ...]) -> Callable[[tuple[object, ...]], Iterable[object]]:
    if not sources:
        return lambda _: ()
    if len(sources) == 1:
        return itemgetter(slice(sources[0], sources[0] + 1))
    return itemgetter(*sources)


def _made(topic: str, makers: Iterable[tuple[str, _Make]], handler: str) -> tuple[object, ...]:
    levels = topic.split("/")
    values = []
    for name, make in makers:
        try:
            values.append(make(levels))
        except Exception as exc:
            raise _refusal(topic, exc, handler, capture=name) from _cause(exc)
    return tuple(values)


def _keep(kept: dict[str, tuple[object, ...]], topic: str, made: tuple[object, ...]) -> None:
    if len(kept) >= _TOPICS_KEPT:
        kept.clear()
    if len(topic) <= LONGEST_TOPIC_KEPT:
        kept[topic] = made


# What does not fit


def _refusal(topic: str, error: Exception, handler: str, *, capture: str | None = None) -> PayloadError:
    count, errors = _listed(error)
    if capture is not None:
        errors = [each | {"loc": (capture, *each["loc"])} for each in errors]
    more = f" (and {count - 1:,} more)" if count > 1 else ""
    what = "payload of" if capture is None else "topic"
    return PayloadError(
        f"{what} {topic[:80]!a} does not fit handler {handler}: {_worded(errors[0])}{more}",
        topic=topic,
        errors=errors,
        handler=handler,
    )


def _listed(error: Exception) -> tuple[int, list[dict[str, Any]]]:
    """How much is wrong, and the first of it as pydantic tells it, but without the payload."""
    if isinstance(error, UnicodeDecodeError):
        text = f"not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start}"
        return 1, [_detail("string_unicode", text)]
    if not _is_of_pydantic(error):
        return 1, [_detail("validator_failed", f"a validator failed: {type(error).__name__}")]
    count = error.error_count()
    if count > _ERRORS_LISTED:
        return count, [_detail("too_many_errors", "more is wrong with it than can be listed")]
    listed = error.errors(include_url=False, include_context=False, include_input=False)[:_ERRORS_KEPT]
    return count, [_detail(each["type"], each["msg"], each["loc"]) for each in listed]


def _cause(error: Exception) -> Exception | None:
    """What a log may show behind a refusal: a mistake of the program, but not what repeats the payload."""
    return None if isinstance(error, UnicodeDecodeError) or _is_of_pydantic(error) else error


def _is_of_pydantic(error: Exception) -> "TypeGuard[ValidationError]":
    return hasattr(error, "error_count")


def _detail(kind: str, text: str, place: tuple[int | str, ...] = ()) -> dict[str, Any]:
    if kind == "union_tag_invalid":  # the only one that repeats what was sent
        text = f"Input tag{text[text.rfind(' does not match') :]}"
    loc = tuple(each[:_CHARACTERS_SHOWN] if isinstance(each, str) else each for each in place)
    return {"type": kind, "loc": loc, "msg": text[:_CHARACTERS_SHOWN]}


def _worded(error: Mapping[str, Any]) -> str:
    """An error as a log may show it: a stranger chose the names in it."""
    place = ".".join(map(str, error["loc"]))[:80]
    return ascii(f"{place}: {error['msg']}" if place else error["msg"])[1:-1][:_CHARACTERS_SHOWN]
