"""What a backend does before it connects: make sure that its login is there."""

import logging

from plantops_cli.config import Settings
from plantops_cli.errors import ConfigError
from plantops_cli.mosquitto.provisioning import Mode, Request, provision
from plantops_cli.mosquitto.text.actions import Action

logger = logging.getLogger("plantops.mosquitto")


def ensure_login(settings: Settings, *, username: str, password: bytes) -> None:
    """Add a login to ``Settings.mqtt_password_file`` if it is not there; one that is there is never changed.

    The broker is told if ``mqtt_broker_config`` or ``mqtt_reload`` says how. What a person should know is logged
    as a warning.

    Args:
        settings: resolved settings, with ``mqtt_password_file`` set.
        username: the user.
        password: the password that a new login gets.

    Raises:
        ConfigError: no password file is set, the login is not allowed, or the broker does not read that file.
        BrokerFileError: the file cannot be read or written, or the broker would not survive a reload.
        ReloadError: the broker may not be signalled, or ended at the reload.
    """
    if settings.mqtt_password_file is None:
        raise ConfigError("no password file is set to add the login to", hint="set MQTT_PASSWORD_FILE")
    outcome = provision(
        Request(
            username=username,
            password=password,
            password_file=settings.mqtt_password_file,
            mode=Mode.IF_MISSING,
            config=settings.mqtt_broker_config,
            reload=settings.mqtt_reload,
            is_proof_wanted=False,  # the backend is about to log in itself
        )
    )
    path = str(settings.mqtt_password_file)
    if outcome.failure is not None:
        raise outcome.failure
    if outcome.login.action is Action.CREATED:
        effect = "the broker has read it" if outcome.is_reloaded else "reload the broker for it to take effect"
        logger.warning("user %r was added to %s; %s", username, path, effect)
        for notice in outcome.notices:
            logger.warning("%s", notice)
    elif outcome.login.password_matches is False:
        logger.warning("user %r has another password in %s; it was left as it is", username, path)
