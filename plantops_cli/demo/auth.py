"""amqtt's logins out of a Mosquitto password file."""

import logging
from dataclasses import dataclass
from pathlib import Path

from amqtt.contexts import BaseContext
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session

from plantops_cli.mosquitto.text.hashing import verify_password
from plantops_cli.mosquitto.text.passwords import find_entry

_log = logging.getLogger("plantops.demo")


class PasswordFileAuth(BaseAuthPlugin):
    """Accept who is in the password file with that password, and nobody else.

    The file is read at each login, as it is then; one that cannot be read refuses everybody.

    Args:
        context: amqtt's, with ``Config`` in it.
    """

    @dataclass
    class Config:
        """What amqtt hands to the plugin.

        Args:
            path: the password file, in Mosquitto's format.
        """

        path: Path

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        self._path: Path = self.config.path

    async def authenticate(self, *, session: Session) -> bool:
        """Check the user name and the password of a CONNECT; without both it is anonymous, and refused."""
        if session.username is None or session.password is None:
            return False
        return self._is_known(session.username, password=session.password.encode())

    def _is_known(self, username: str, *, password: bytes) -> bool:
        try:
            entry = find_entry(self._path.read_bytes(), username)
        except OSError as exc:
            _log.warning("the password file cannot be read: %s", exc.strerror)
            return False
        return entry is not None and verify_password(password, entry)
