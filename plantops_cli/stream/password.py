"""The password of one attempt to connect: a fixed one, or what a function gives when it is asked."""

import asyncio
import inspect
from dataclasses import replace

from plantops_cli.credentials import PasswordSource
from plantops_cli.errors import BrokerUnreachableError, ConfigError, PlantopsError
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.waiting import in_daemon_thread


async def with_password(options: ConnectOptions, *, deadline: float) -> ConnectOptions:
    """Return the same options with the password that is to be sent now.

    A plain function is called in a thread, for it may read a file or ask a server.

    Args:
        options: whose password may be a function.
        deadline: moment of the event loop's clock at which to give up.

    Raises:
        BrokerUnreachableError: the function raised, or has given nothing in time.
        ConfigError: it gave what is no password.
    """
    source = options.password
    if source is None or isinstance(source, (str, bytes)):
        return options
    name = getattr(source, "__qualname__", type(source).__qualname__)
    try:
        async with asyncio.timeout_at(deadline) as bound:
            password = await _ask(source)
    except Exception as exc:
        why = f"{name} has given none in time" if bound.expired() else f"{name} raised {_in_words(exc)}"
        raise BrokerUnreachableError(
            f"{options.endpoint}: no password to log in with: {why}",
            endpoint=options.endpoint,
            hint=getattr(exc, "hint", None) or "it is asked before each attempt to connect",
        ) from exc
    if not isinstance(password, (str, bytes)):
        raise ConfigError(
            f"{name} gave {type(password).__name__} for a password", hint="let it return text or bytes"
        )
    return replace(options, password=password)


async def _ask(source: PasswordSource) -> object:
    given = source() if inspect.iscoroutinefunction(source) else await in_daemon_thread(source)
    return await given if inspect.isawaitable(given) else given


def _in_words(exc: Exception) -> str:
    """Say an error without its text, which may hold anything, unless it is one of ours or of the system."""
    if isinstance(exc, PlantopsError):
        return str(exc)
    kind = type(exc).__name__
    return f"{kind}: {exc.strerror}" if isinstance(exc, OSError) and exc.strerror else kind
