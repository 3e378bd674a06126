"""What handlers are called with, and which of them cannot be called."""

import asyncio
import datetime
import enum
import functools
import json
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from decimal import Decimal
from queue import Queue
from typing import Annotated, Any, Literal, NewType, Optional
from unittest.mock import AsyncMock, Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    RootModel,
    StringConstraints,
    ValidationError,
    field_validator,
)
from typing_extensions import TypedDict  # that of typing is not enough for pydantic before Python 3.12

from plantops_cli.errors import ConfigError, PayloadError
from plantops_cli.messages import Message
from plantops_cli.stream.handling.binding import bind
from plantops_cli.topics import parse_pattern
from tests.stream.handling.test_parameters import hands_on, hands_on_keywords, takes_one

PATTERN = parse_pattern("devices/{device_id}/{kind}")
TOPIC = "devices/abc/telemetry"


class Telemetry(BaseModel):
    soil_moisture: float
    seq: int = 0


@dataclass
class Reading:
    soil_moisture: float
    seq: int = dataclass_field(default=0, init=False)


class Row(TypedDict):
    soil_moisture: float


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Levels(RootModel[list[float]]):
    """A model that is a list."""


class Number(RootModel[int]):
    """A model that is a number."""


class Kind(enum.Enum):
    TELEMETRY = "telemetry"


class Level(enum.IntEnum):
    LOW = 1


class Arbitrary:
    """A class of which pydantic knows nothing."""


ARBITRARY = Arbitrary()
Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
DeviceName = NewType("DeviceName", str)
MOIST = Telemetry(soil_moisture=41)
ROW = {"soil_moisture": 41.0}


def called(
    handler: Callable[..., object], payload: bytes | str = b"", *, topic: str = TOPIC, pattern: str = PATTERN.text
) -> Any:
    """What a handler returns to a message."""
    return bind(handler, parse_pattern(pattern)).call(Message.of(topic, payload))


def taking(annotation: object, default: object = ...) -> Callable[..., object]:
    """A handler that returns its payload, of a type that only a test knows."""

    def handle(value: Any) -> object:
        return value

    handle.__annotations__["value"] = annotation
    if default is not ...:
        handle.__defaults__ = (default,)
    return handle


def naming(annotation: object) -> Callable[..., object]:
    """A handler that returns what was captured."""

    def handle(device_id: Any) -> object:
        return device_id

    handle.__annotations__["device_id"] = annotation
    return handle


# The message, as ever


async def one(message: Message) -> None: ...


def optional(message: Optional[Message] = None) -> object:  # noqa: UP045  # as it may be written
    return message


@pytest.mark.parametrize(
    "handler",
    [
        one,
        lambda message: None,
        lambda message, extra=1: None,
        lambda message=None: None,
        lambda *arguments: None,
        lambda message, *rest, **more: None,
        optional,
        [].append,
        print,
        Queue[Message]().put_nowait,
        asyncio.Queue[Message]().put,
        Mock(),
        AsyncMock(),
        functools.partial(lambda database, message: None, "database"),
        hands_on(one),
        takes_one(lambda reading, session: None),
    ],
)
def test_a_handler_of_one_thing_without_a_type_is_called_itself(handler: Callable[..., object]) -> None:
    bound = bind(handler, PATTERN)
    assert bound.call is handler
    assert bound.payload_type is None


def test_the_message_goes_by_keyword_where_it_has_to() -> None:
    handle = functools.partial(lambda database, message: (database, message.topic), database="d")
    assert called(handle) == ("d", TOPIC)


# The payload


@pytest.mark.parametrize(
    ("annotation", "payload", "value"),
    [
        (Telemetry, '{"soil_moisture":41}', MOIST),
        (Optional[Telemetry], "null", None),  # noqa: UP045  # old, and no union to isinstance
        (Telemetry | None, '{"soil_moisture":41}', MOIST),
        (Annotated[Telemetry, Field(title="x")], '{"soil_moisture":41}', MOIST),
        (list[Telemetry], '[{"soil_moisture":41}]', [MOIST]),
        (dict[str, float], '{"a":1}', {"a": 1.0}),
        (Row, '{"soil_moisture":41}', ROW),
        (Reading, '{"soil_moisture":41}', Reading(41)),
        (Pet, '{"kind":"dog"}', Dog(kind="dog")),
        (Cat | Dog, '{"kind":"cat"}', Cat(kind="cat")),
        (Levels, "[1,2]", Levels([1, 2])),
        (Number, "1", Number(1)),
        (float, "21.5", 21.5),
        (int | str, '"on"', "on"),
        (bool, "true", True),
        (Literal["on", "off"], '"on"', "on"),
        (Kind, '"telemetry"', Kind.TELEMETRY),
        (datetime.date, '"2026-11-27"', datetime.date(2026, 11, 27)),
        (tuple[int, str], '[1,"a"]', (1, "a")),
        (Any, '{"a":[1]}', {"a": [1]}),
        (object, "[1]", [1]),
        (None, "null", None),
        (bytes, b"\xff\0", b"\xff\0"),
        (bytes, b"", b""),
        (bytes | None, b"\xff", b"\xff"),
        (Annotated[bytes, Field(max_length=2)], b"\xff", b"\xff"),
        (str, "grün", "grün"),
        (str, "", ""),
        (str | None, "null", "null"),
        (Annotated[str, StringConstraints(strip_whitespace=True)], " on ", "on"),
        (DeviceName, "abc", "abc"),
        (Annotated[InstanceOf[Arbitrary], BeforeValidator(lambda _: ARBITRARY)], "1", ARBITRARY),
    ],
)
def test_the_payload_becomes_what_the_parameter_says(
    annotation: object, payload: bytes | str, value: object
) -> None:
    handler = taking(annotation)
    assert called(handler, payload) == value
    assert bind(handler, PATTERN).payload_type == (type(None) if annotation is None else annotation)


@pytest.mark.parametrize(
    ("annotation", "payload", "kind", "place"),
    [
        (Telemetry, "{}", "missing", ("soil_moisture",)),
        (Telemetry, "", "json_invalid", ()),
        (Telemetry, b"\xff", "json_invalid", ()),
        (Telemetry, "[" * 100_000, "json_invalid", ()),
        (Telemetry, "1" * 100_000, "json_invalid", ()),
        (Telemetry, '{"soil_moisture":"wet"}', "float_parsing", ("soil_moisture",)),
        (Telemetry | None, "", "json_invalid", ()),
        (list[Telemetry], "[{}]", "missing", (0, "soil_moisture")),
        (dict[str, float], '{"x":[]}', "float_type", ("x",)),
        (Any, "{", "json_invalid", ()),
        (str, b"ab\xc3(", "string_unicode", ()),
        (Annotated[str, StringConstraints(max_length=1)], "ab", "string_too_long", ()),
        (Annotated[str, StringConstraints(max_length=1)], b"\xff", "string_unicode", ()),
        (Annotated[bytes, Field(max_length=1)], "ab", "bytes_too_long", ()),
    ],
)
def test_a_payload_that_does_not_fit_says_where(
    annotation: object, payload: bytes | str, kind: str, place: tuple[object, ...]
) -> None:
    handler = taking(annotation)
    with pytest.raises(
        PayloadError, match=r"^payload of 'devices/abc/telemetry' does not fit handler "
    ) as refused:
        called(handler, payload)
    assert [(error["type"], error["loc"]) for error in refused.value.errors] == [(kind, place)]
    assert refused.value.errors[0].keys() == {"type", "loc", "msg"}
    assert (refused.value.topic, refused.value.handler) == (TOPIC, handler.__qualname__)


@pytest.mark.parametrize(
    "annotation", [Telemetry, list[Telemetry], dict[str, float], float, str, bytes, Any, Pet, Row]
)
@given(
    payload=st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["soil_moisture", "kind"]) | st.text(), inner)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_payload_is_a_value_or_a_payload_error_of_one_printable_line(
    annotation: object, payload: bytes
) -> None:
    try:
        called(taking(annotation), payload)
    except PayloadError as exc:
        refused = exc
    else:
        return
    assert str(refused).isprintable()
    assert str(refused).isascii()
    assert len(str(refused)) < 1_000


def test_what_was_sent_is_neither_in_the_text_nor_in_the_trace_of_what_is_wrong_with_it() -> None:
    for annotation, payload in (
        (Telemetry, '{"soil_moisture":"tulip"}'),
        (Pet, '{"kind":"tulip"}'),
        (float, '"tulip"'),
    ):
        with pytest.raises(PayloadError) as refused:
            called(taking(annotation), payload)
        assert "tulip" not in f"{refused.value}{refused.value.errors}{refused.value.hint}"
        assert refused.value.__suppress_context__


def test_of_much_that_is_wrong_the_first_is_listed_and_all_is_counted() -> None:
    with pytest.raises(PayloadError, match=r"0\.soil_moisture: Field required [(]and 99 more[)]$") as refused:
        called(taking(list[Telemetry]), b"[" + b"{}," * 99 + b"{}]")
    assert len(refused.value.errors) == 20
    with pytest.raises(PayloadError, match=r"[(]and 99,999 more[)]$") as refused:
        called(taking(list[Telemetry]), b"[" + b"{}," * 99_999 + b"{}]")
    assert len(refused.value.errors) == 1


@pytest.mark.parametrize("name", ["\u202e" + "x" * 100_000, "\U0001f33f" * 1_000, "'" * 1_000, "\\" * 1_000])
def test_long_names_in_a_payload_are_escaped_and_shortened(name: str) -> None:
    with pytest.raises(PayloadError) as refused:
        called(taking(dict[str, dict[str, float]]), json.dumps({name: {name: []}}))
    assert len(str(refused.value)) < 500
    assert str(refused.value).isascii()
    where: Any = refused.value.errors[0]["loc"]
    assert max(map(len, where)) <= 200


def test_a_default_of_none_stands_for_an_empty_payload() -> None:
    for annotation in (Telemetry, Telemetry | None, Reading, list[float]):
        handler = taking(annotation, None)
        assert called(handler, "") is None
        with pytest.raises(PayloadError):
            called(handler, "wet")
    assert called(taking(Telemetry, None), '{"soil_moisture":41}') == MOIST


# What the topic captured


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (str, "abc", "abc"),
        (str, "", ""),
        (Any, "abc", "abc"),
        (int, "42", 42),
        (int | None, "42", 42),
        (float, "1.5", 1.5),
        (Decimal, "1.5", Decimal("1.5")),
        (uuid.UUID, "12345678-1234-5678-1234-567812345678", uuid.UUID("12345678-1234-5678-1234-567812345678")),
        (Literal["abc"], "abc", "abc"),
        (Kind, "telemetry", Kind.TELEMETRY),
        (Level, "1", Level.LOW),
        (datetime.date, "2026-11-27", datetime.date(2026, 11, 27)),
        (Annotated[int, Field(gt=41)], "42", 42),
        (Annotated[str, StringConstraints(to_upper=True)], "abc", "ABC"),
        (DeviceName, "abc", "abc"),
        (Number, "42", Number(42)),
        (Annotated[list[str], BeforeValidator(lambda text: text.split("-"))], "a-b", ["a", "b"]),
    ],
)
def test_what_is_captured_becomes_what_the_parameter_says(annotation: object, text: str, value: object) -> None:
    for _ in range(2):
        assert called(naming(annotation), topic=f"devices/{text}/telemetry") == value


@pytest.mark.parametrize(
    "annotation", [int, uuid.UUID, Literal["x"], Kind, Annotated[str, StringConstraints(max_length=1)]]
)
def test_a_topic_that_does_not_fit_says_which_name_does_not_each_time(annotation: object) -> None:
    bound = bind(naming(annotation), PATTERN)
    for _ in range(2):
        with pytest.raises(
            PayloadError, match=r"^topic 'devices/abc/telemetry' does not fit .*: device_id: "
        ) as refused:
            bound.call(Message.of(TOPIC))
        assert refused.value.errors[0]["loc"] == ("device_id",)


def test_a_name_without_annotation_is_text_even_where_nothing_else_is_a_parameter() -> None:
    assert called(lambda device_id: device_id) == "abc"
    assert called(lambda kind, device_id="x": (kind, device_id)) == ("telemetry", "abc")


def test_a_topic_is_converted_once_and_no_stranger_fills_the_memory_with_topics() -> None:
    converted: list[str] = []

    def convert(text: str) -> str:
        converted.append(text)
        return text

    bound = bind(naming(Annotated[str, BeforeValidator(convert)]), PATTERN)

    def conversions(*devices: str) -> int:
        before = len(converted)
        for device in devices:
            bound.call(Message.of(f"devices/{device}/telemetry"))
        return len(converted) - before

    assert conversions("a", "a", "b", "a") == 2
    assert conversions("x" * 200, "x" * 200, "a") == 2
    assert conversions(*map(str, range(10_000))) == 10_000
    assert conversions("a", "9999") == 1


# All together


def everything(reading: Telemetry, device_id: str, message: Message, kind: Kind) -> tuple[object, ...]:
    return reading, device_id, message.topic, kind


def positional(message: Message, device_id: str, /, *, reading: Telemetry) -> tuple[object, ...]:
    return reading, device_id, message.topic, Kind.TELEMETRY


def by_keyword(*, reading: Telemetry, kind: Kind, device_id: str, message: Message) -> tuple[object, ...]:
    return reading, device_id, message.topic, kind


def with_defaults(
    message: Message, unused: int = 5, /, device_id: str = "", limit: int = 3, *, reading: Telemetry, more: int = 1
) -> tuple[object, ...]:
    assert (unused, limit, more) == (5, 3, 1)
    return reading, device_id, message.topic, Kind.TELEMETRY


def variadic(
    reading: Telemetry, *rest: int, device_id: str, message: Message | None = None, **more: int
) -> tuple[object, ...]:
    assert (rest, more) == ((), {})
    return reading, device_id, message and message.topic, Kind.TELEMETRY


class Store:
    """Handlers with a state."""

    def method(self, reading: Telemetry, device_id: str, message: Message) -> tuple[object, ...]:
        return reading, device_id, message.topic, Kind.TELEMETRY

    __call__ = method
    decorated = hands_on(method)


@dataclass
class Stored:
    """A class that is called."""

    reading: Telemetry
    device_id: str


@pytest.mark.parametrize(
    "handler",
    [
        everything,
        positional,
        by_keyword,
        with_defaults,
        variadic,
        Store().method,
        Store().decorated,
        Store(),
        hands_on(everything),
        hands_on(hands_on(by_keyword)),
        hands_on_keywords(everything),
        hands_on_keywords(by_keyword),
        functools.partial(everything),
        functools.partial(everything, kind=Kind.TELEMETRY),
        functools.partial(hands_on(everything)),
    ],
)
def test_each_parameter_gets_its_own_however_it_is_given(handler: Callable[..., object]) -> None:
    assert called(handler, '{"soil_moisture":41}') == (MOIST, "abc", TOPIC, Kind.TELEMETRY)


def test_a_handler_may_take_nothing() -> None:
    assert called(lambda: "called") == "called"


async def test_what_a_coroutine_function_returns_is_to_be_awaited() -> None:
    async def handle(reading: Telemetry) -> Telemetry:
        return reading

    bound = bind(handle, PATTERN)
    assert bound.is_async
    returned: Any = bound.call(Message.of(TOPIC, '{"soil_moisture":41}'))
    assert await returned == MOIST


def test_a_default_that_nothing_fills_is_left_alone() -> None:
    def handle(
        reading: Telemetry,
        database: Arbitrary = ARBITRARY,
        rows: dict[str, int] = {},  # noqa: B006  # often meant so
        other: Row | None = None,
    ) -> object:
        return database, rows, other

    assert called(handle, '{"soil_moisture":41}') == (ARBITRARY, {}, None)


@pytest.mark.parametrize("default", [Telemetry(soil_moisture=1), 3])
def test_a_handler_that_nothing_of_a_message_reaches_is_refused(default: object) -> None:
    with pytest.raises(ConfigError, match="no parameter takes anything of a message"):
        bind(taking(type(default), default), PATTERN)


def test_a_class_may_be_a_handler_if_its_init_can_be_filled() -> None:
    assert called(Stored, '{"soil_moisture":41}') == Stored(MOIST, "abc")
    with pytest.raises(ConfigError, match="handler int is a class"):
        bind(int, PATTERN)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="aliases are a statement since Python 3.12")
def test_an_alias_is_the_type_that_it_stands_for() -> None:
    names: dict[str, Any] = {"Telemetry": Telemetry}
    exec("type Reading = Telemetry\ntype Text = str\ntype Both = list[Reading]", names)
    assert called(taking(names["Reading"]), '{"soil_moisture":41}') == MOIST
    assert called(taking(names["Both"]), '[{"soil_moisture":41}]') == [MOIST]
    assert called(taking(names["Text"]), "no JSON") == "no JSON"


def test_a_model_that_is_local_to_a_function_is_found_by_its_name() -> None:
    class Local(BaseModel):
        soil_moisture: float

    def handle(reading: "Local", device_id: "int") -> object:
        return reading.soil_moisture, device_id

    assert called(handle, '{"soil_moisture":41}', topic="devices/7/telemetry") == (41, 7)


# What the handler raises


@pytest.mark.parametrize("handler", [taking(Telemetry), everything])
def test_what_the_handler_raises_is_not_taken_for_a_payload_that_does_not_fit(
    handler: Callable[..., object],
) -> None:
    refusal = PayloadError("as another handler had it", topic="t", handler="another")

    @functools.wraps(handler)
    def fails(*args: object, **kwargs: object) -> None:
        handler(*args, **kwargs)
        raise refusal

    with pytest.raises(PayloadError) as raised:
        called(fails, '{"soil_moisture":41}')
    assert raised.value is refusal
    assert refusal.handler is None


@pytest.mark.parametrize("device_id", ["", "device_id"])
def test_a_validation_error_of_the_handler_stays_one(device_id: str) -> None:
    def simple(reading: Telemetry) -> None:
        Telemetry.model_validate({})

    def full(reading: Telemetry, device_id: str) -> None:
        Telemetry.model_validate({})

    with pytest.raises(ValidationError):
        called(full if device_id else simple, '{"soil_moisture":41}')


def test_a_validator_that_raises_anything_refuses_the_payload_and_can_be_found_in_the_log() -> None:
    class Mistaken(BaseModel):
        value: int

        @field_validator("value")
        @classmethod
        def look(cls, value: int) -> int:
            return {0: 0}[value]

    with pytest.raises(PayloadError, match=r"a validator failed: KeyError$") as refused:
        called(taking(Mistaken), '{"value":1}')
    assert isinstance(refused.value.__cause__, KeyError)
    assert refused.value.errors[0]["type"] == "validator_failed"


# What cannot be bound


class NotOfJson(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    seq: int = 0
    thing: Arbitrary


class Undefined(BaseModel):
    other: "Nowhere"  # type: ignore[name-defined]  # noqa: F821  # that is what is tested


@dataclass
class Inside:
    models: int
    model: NotOfJson


class Recursive(BaseModel):
    inner: "Recursive | None" = None
    call: Callable[[], int]


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (Arbitrary, "Arbitrary has no validator"),
        (list[Arbitrary], "has no validator"),
        (Undefined, "has no validator"),
        (list[Undefined], "has no validator"),
        (5, "has no validator"),
        (Callable[[], int], "cannot be made of JSON: it takes objects of Python only"),
        (InstanceOf[Arbitrary], "cannot be made of JSON"),
        (type[int], "cannot be made of JSON"),
        (NotOfJson, "NotOfJson cannot be made of JSON: field 'thing': it takes"),
        (Inside, "cannot be made of JSON: field 'thing'"),
        (Recursive, "cannot be made of JSON: field 'call'"),
    ],
)
def test_a_payload_that_no_json_can_be_is_refused_when_it_is_bound(annotation: object, reason: str) -> None:
    with pytest.raises(ConfigError, match=r"^handler taking\.<locals>\.handle: parameter 'value': ") as refused:
        bind(taking(annotation), PATTERN)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


class Possible(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    thing: Arbitrary | None
    other: Arbitrary = Field(default_factory=Arbitrary)
    things: list[Arbitrary]
    made: Annotated[Arbitrary, BeforeValidator(lambda value: Arbitrary())]
    recursive: "Possible | None"


def test_a_payload_that_some_json_can_be_is_not_refused() -> None:
    assert called(taking(Possible), '{"thing":null,"things":[],"made":1,"recursive":null}').things == []


@pytest.mark.parametrize(
    "annotation",
    [list[int], dict[str, int], Telemetry, Row, Reading, Telemetry | None, tuple[str, str], Pet],
)
def test_a_parameter_of_many_parts_is_not_made_of_one_captured_text(annotation: object) -> None:
    with pytest.raises(ConfigError, match=r"parameter 'device_id': .* cannot be made of the text") as refused:
        bind(naming(annotation), PATTERN)
    assert "str, int or UUID" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (lambda reading, other: None, "reading"),
        (lambda message, device_id: None, "message"),
        (lambda device_id, *, database: None, "database"),
        (functools.partial(lambda a, b, c: None, 1), "b"),
    ],
)
def test_a_parameter_that_nothing_tells_how_to_fill_is_refused_by_name(
    handler: Callable[..., object], name: str
) -> None:
    with pytest.raises(
        ConfigError, match=f"nothing tells what parameter '{name}' is to be filled with"
    ) as refused:
        bind(handler, PATTERN)
    assert refused.value.hint


def two(reading: Telemetry, message: Message, other: Row) -> None: ...


def two_optional(message: Message, reading: Telemetry | None = None, other: Row | None = None) -> None: ...


@pytest.mark.parametrize("handler", [two, two_optional])
def test_two_parameters_for_one_payload_are_refused_by_name(handler: Callable[..., object]) -> None:
    with pytest.raises(ConfigError, match="only one parameter takes the payload, not both 'reading' and 'other'"):
        bind(handler, PATTERN)


def test_a_name_that_the_pattern_has_not_is_taken_for_the_payload_and_so_found_to_be_one_too_many() -> None:
    with pytest.raises(ConfigError, match="'reading' and 'device'") as refused:
        bind(taking_two, PATTERN)
    assert "devices/{device}/telemetry" in str(refused.value.hint)


def taking_two(reading: Telemetry, device: str) -> None: ...


def generator(message: Message) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("handler", [generator, functools.partial(generator)])
def test_a_generator_is_no_handler(handler: Callable[..., object]) -> None:
    with pytest.raises(ConfigError, match="handler generator is a generator"):
        bind(handler, PATTERN)


@pytest.mark.parametrize("handler", [None, "handle", 5, Telemetry(soil_moisture=1)])
def test_what_cannot_be_called_is_no_handler(handler: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be called"):
        bind(handler, PATTERN)


def test_a_decorator_that_does_not_hand_everything_on_is_refused() -> None:
    @functools.wraps(by_keyword)
    def positional_only(*arguments: object) -> None: ...

    with pytest.raises(ConfigError, match="decorator does not hand on"):
        bind(positional_only, PATTERN)


def test_a_parameter_that_is_called_nearly_as_a_level_of_the_topic_does_not_take_the_payload() -> None:
    async def store(devic_id: str) -> None: ...

    with pytest.raises(ConfigError, match="did you mean 'device_id'"):
        bind(store, parse_pattern("devices/{device_id}/telemetry"))


def test_a_model_may_be_called_nearly_as_a_level_of_the_topic() -> None:
    async def store(device_idx: dict[str, float]) -> None: ...

    assert bind(store, parse_pattern("devices/{device_id}/telemetry")).payload_type == dict[str, float]
