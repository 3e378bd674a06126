"""What it costs to fill the parameters of a handler, against the same two lines written in it by hand."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import cast

from pydantic import BaseModel

from benchmarks.measure import Comparison, Section, Sizes, amount, compare
from plantops_cli.messages import Message
from plantops_cli.stream.handling.binding import bind
from plantops_cli.topics import parse_pattern

_MESSAGES = 200_000
_FEW, _MANY = 100, 20_000  # of many, what their topics hold is not kept
_TARGET = 1.3
_PATTERN = parse_pattern("devices/{device_id}/telemetry")
_PAYLOAD = (
    b'{"soil_moisture":41.5,"temperature":21.25,"light":1830,"battery":87.1,"humidity":55.0,"seq":17,"ok":true}'
)
_METHOD = (
    "CPU seconds of {messages:,} messages of {size} bytes, each a Message already, in one process by turns; from "
    "{few} devices, and from {many:,}, more than are remembered. The peer takes the Message, calls "
    "Model.model_validate_json, and splits the topic."
)


class _Telemetry(BaseModel):
    soil_moisture: float
    temperature: float
    light: int
    battery: float
    humidity: float
    seq: int
    ok: bool


async def _typed(reading: _Telemetry, device_id: str) -> None: ...


async def _typed_with_message(reading: _Telemetry, device_id: str, message: Message) -> None: ...


async def _by_hand(message: Message) -> None:
    reading = _Telemetry.model_validate_json(message.payload)
    device_id = message.topic.split("/")[1]
    del reading, device_id


def measure(sizes: Sizes) -> Section:
    """Measure handlers with typed parameters against one that validates by hand."""
    comparisons = (
        _comparison(f"model and device id, {_FEW} devices", _typed, _FEW, sizes.rounds),
        _comparison(f"model, device id and message, {_FEW} devices", _typed_with_message, _FEW, sizes.rounds),
        _comparison(f"model and device id, {_MANY:,} devices", _typed, _MANY, sizes.rounds),
    )
    per_message = [(each.measure, amount(each.ours / _MESSAGES * 1e6, "µs")) for each in comparisons]
    return Section(
        "Typed handlers",
        _METHOD.format(messages=_MESSAGES, size=len(_PAYLOAD), few=_FEW, many=_MANY),
        comparisons,
        ("what", "figure"),
        tuple(per_message),
    )


def _comparison(what: str, handler: Callable[..., object], devices: int, rounds: int) -> Comparison:
    messages = [Message.of(f"devices/plant-{n:05}/telemetry", _PAYLOAD, qos=1) for n in range(devices)]
    typed, by_hand = bind(handler, _PATTERN).call, bind(_by_hand, _PATTERN).call
    return compare(
        f"a typed handler: {what}",
        "model_validate_json by hand",
        ours=lambda: asyncio.run(_feed(typed, messages)),
        peers=lambda: asyncio.run(_feed(by_hand, messages)),
        runs=rounds,
        target=_TARGET,
    )


async def _feed(call: Callable[[Message], object], messages: list[Message]) -> float:
    began = time.process_time()
    for _ in range(_MESSAGES // len(messages)):
        for message in messages:
            await cast(Awaitable[object], call(message))
    return time.process_time() - began
