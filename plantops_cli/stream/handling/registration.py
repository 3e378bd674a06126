"""One handler, for which messages it was registered, and how it is to be called."""

from collections.abc import Awaitable, Callable, Hashable
from difflib import get_close_matches
from sys import float_info
from typing import Any, Literal, TypedDict, Unpack, cast

from plantops_cli.errors import ConfigError, PayloadError
from plantops_cli.messages import Message
from plantops_cli.stream.handling.binding import bind
from plantops_cli.stream.handling.parameters import is_coroutine_function
from plantops_cli.stream.handling.policy import ErrorPolicy, check_policy
from plantops_cli.topics import Pattern

PlainHandler = Callable[..., None]
"""A function of one ``Message`` or of what its parameters name; it returns nothing, for nobody would look."""

Handler = Callable[..., Awaitable[object] | None]
"""What a message is handed to: a ``PlainHandler`` or a coroutine function, whose parameters are the same."""

KeyFunction = Callable[[Message], Hashable]
"""Tells which messages are to be handled one after the other."""

OnInvalid = Callable[[Message, PayloadError], object]
"""Called with a message that does not fit the types of its handler; a function or coroutine function."""


class _CommonOptions(TypedDict, total=False):
    concurrency: int
    key: KeyFunction | None
    timeout_seconds: float | None
    on_error: ErrorPolicy | None
    on_invalid: OnInvalid | None


class HandlerOptions(_CommonOptions, total=False):
    """How a handler is called; the keywords of ``register_handler``, ``on`` and ``subscribe``.

    Keys:
        concurrency: how many messages may be in hand at once; those of one key are handled in order all the same.
            Default: 1, and all handlers of that default take turns, in the order in which the messages came.
        key: tells which messages must keep their order; default: those of one device, else of one topic.
        blocking: False to call it on the event loop, True, for plain functions only, in a thread. Default: a
            coroutine function is called on the event loop, any other function in a thread.
        timeout_seconds: a call that takes longer is cancelled, and counts as failed; one in a thread is left to
            itself. Default: none.
        on_error: what becomes of a message on which it fails; default: as the subscriber's.
        on_invalid: called with a message that does not fit the types of its parameters, which then counts as
            handled. Such messages are counted in any case; default: they are logged, at a bounded rate.
    """

    blocking: Literal[False] | None


class PlainOptions(_CommonOptions, total=False):
    """How a ``PlainHandler`` is called: as ``HandlerOptions`` says, and ``blocking`` may be True."""

    blocking: bool | None


class Registration:
    """A handler with its options.

    Args:
        pattern: which messages it is for.
        handler: what is called.
        policy: what becomes of a message on which it fails, where its options say nothing.
        options: as in ``HandlerOptions``.

    Raises:
        ConfigError: an option is out of its range, or a parameter of the handler cannot be filled.
    """

    __slots__ = (
        "call",
        "concurrency",
        "handler",
        "is_async",
        "is_blocking",
        "key",
        "name",
        "on_error",
        "on_invalid",
        "options",
        "pattern",
        "payload_type",
        "timeout_seconds",
    )

    def __init__(
        self, pattern: Pattern, handler: Handler, policy: ErrorPolicy = "ack", **options: Unpack[PlainOptions]
    ) -> None:
        unknown = options.keys() - PlainOptions.__annotations__.keys()
        if unknown:
            raise TypeError(_unexpected(min(unknown)))
        binding = bind(handler, pattern)
        self.options = dict(options)
        self.pattern = pattern
        self.handler = handler
        self.call = binding.call
        self.name = binding.name
        self.is_async = binding.is_async
        self.payload_type = binding.payload_type
        self.concurrency = _check_concurrency(options.get("concurrency", 1))
        self.key = _check_key(options.get("key"))
        self.is_blocking = _check_blocking(options.get("blocking"), is_async=binding.is_async, name=binding.name)
        self.timeout_seconds = _check_timeout(options.get("timeout_seconds"))
        on_error = options.get("on_error")
        self.on_error = check_policy(policy if on_error is None else on_error)
        self.on_invalid = _check_function("on_invalid", options.get("on_invalid"))


def _unexpected(name: str) -> str:
    near = get_close_matches(name, PlainOptions.__annotations__, 1)
    return f"a handler has no option {name!r}" + (f": did you mean {near[0]!r}?" if near else "")


def _check_concurrency(concurrency: object) -> int:
    if not isinstance(concurrency, int) or isinstance(concurrency, bool) or concurrency < 1:
        raise ConfigError(f"concurrency={concurrency!r} is not possible", hint="a whole number, 1 or more")
    return concurrency


def _check_timeout(seconds: object) -> float | None:
    if seconds is None:
        return None
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 < seconds <= float_info.max:
        raise ConfigError(f"timeout_seconds={seconds!r} is not possible", hint="seconds, more than 0, or None")
    return float(seconds)


def _check_function(name: str, function: Any) -> Any:
    if function is not None and not callable(function):
        raise ConfigError(f"{name}={function!r} is not a function", hint="a function, or None")
    return function


def _check_key(key: Any) -> KeyFunction | None:
    if is_coroutine_function(_check_function("key", key)):
        raise ConfigError(
            "key is a coroutine function, which would never be awaited", hint="make it a plain function"
        )
    return cast("KeyFunction | None", key)


def _check_blocking(blocking: object, *, is_async: bool, name: str) -> bool:
    if blocking is None:
        return not is_async
    if not isinstance(blocking, bool):
        raise ConfigError(f"blocking={blocking!r} is not possible", hint="True, False or None")
    if blocking and is_async:
        raise ConfigError(
            f"handler {name} is a coroutine function, which runs on the event loop",
            hint="make it a plain function, or leave out blocking=True",
        )
    return blocking
