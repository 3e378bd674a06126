"""A FastAPI lifespan that keeps a subscriber listening while the application runs."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from plantops_cli.config import Settings, load_settings
from plantops_cli.errors import BrokerError
from plantops_cli.mosquitto.password_file import Action, provision_user
from plantops_cli.stream.subscriber import MQTTSubscriber

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger("plantops.fastapi")


def mqtt_lifespan(
    subscriber: MQTTSubscriber, *, settings: Settings | None = None, wait_for_broker: bool = True
) -> "Callable[[FastAPI], AbstractAsyncContextManager[None]]":
    """Make the ``lifespan`` of an application: ``FastAPI(lifespan=mqtt_lifespan(subscriber))``.

    At startup the backend's login is added to Mosquitto's password file if ``Settings.mqtt_password_file`` is set
    and it is not there yet (an existing one is never overwritten), then the subscriber connects and listens in
    the background; at shutdown it disconnects, within 5 s whatever the broker does.

    Args:
        subscriber: with its handlers registered, or to be registered later.
        settings: where the login comes from; default: environment and ``.env``.
        wait_for_broker: start although the broker cannot be reached within 10 s, and keep trying; False: fail
            to start.

    Raises:
        ConfigError: at startup: the password file is set, but no password.
        BrokerFileError: at startup: the password file cannot be read or written.
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
    path = settings.mqtt_password_file
    if path is None:
        return
    name = settings.mqtt_backend_username
    outcome = provision_user(path, name, settings.password(), overwrite=False)
    if outcome.action is Action.CREATED:
        logger.warning("user %r was added to %s; reload the broker for it to take effect", name, path)
    elif not outcome.password_matches:
        logger.warning("user %r has another password in %s; it was left as it is", name, path)
