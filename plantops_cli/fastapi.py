"""A FastAPI lifespan that keeps a subscriber listening while the application runs."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from plantops_cli.config import Settings, load_settings
from plantops_cli.errors import BrokerError
from plantops_cli.mosquitto.startup import ensure_login
from plantops_cli.stream.subscriber import MQTTSubscriber

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger("plantops.fastapi")


def mqtt_lifespan(
    subscriber: MQTTSubscriber, *, settings: Settings | None = None, wait_for_broker: bool = True
) -> "Callable[[FastAPI], AbstractAsyncContextManager[None]]":
    """Make the ``lifespan`` of an application: ``FastAPI(lifespan=mqtt_lifespan(subscriber))``.

    At startup the backend's login is added to Mosquitto's password file if ``Settings.mqtt_password_file`` is set
    and it is not there yet (an existing one is never overwritten); the broker is told if ``mqtt_broker_config`` or
    ``mqtt_reload`` says how. Then the subscriber connects and listens in the background; at shutdown it
    disconnects, within 5 s whatever the broker does. Meanwhile a password that changes in its file is read anew
    when the broker refuses the old one.

    Args:
        subscriber: with its handlers registered, or to be registered later.
        settings: where the login comes from; default: environment and ``.env``, as ``load_settings`` takes them.
        wait_for_broker: start although an attempt to connect finds no broker, and keep trying; False: fail to
            start.

    Raises:
        ConfigError: at startup: the password file is set, but no password.
        BrokerFileError: at startup: the password file cannot be read or written, or a reload would be dangerous.
        ReloadError: at startup: the broker may not be signalled, or ended at the reload.
        BrokerError: at startup: the broker refused the login or a filter, or ``wait_for_broker`` is False and it
            cannot be reached.
    """

    @asynccontextmanager
    async def lifespan(app: "FastAPI") -> AsyncIterator[None]:
        app.state.mqtt = subscriber
        await asyncio.to_thread(_ensure_login, settings or load_settings())
        try:
            await _connect(subscriber, wait_for_broker=wait_for_broker)
            await subscriber.start()
            yield
        finally:
            await subscriber.disconnect()

    return lifespan


async def _connect(subscriber: MQTTSubscriber, *, wait_for_broker: bool) -> None:
    try:
        await subscriber.connect()
    except BrokerError as exc:
        if not (exc.retryable and wait_for_broker):
            raise
        logger.warning("starting without the broker: %s", exc)


def _ensure_login(settings: Settings) -> None:
    if settings.mqtt_password_file is not None:
        ensure_login(settings, username=settings.mqtt_backend_username, password=settings.password())
