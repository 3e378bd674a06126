"""What paho writes into the log: it repeats what a broker says, who may repeat the password that it was sent."""

import logging
from collections.abc import Iterable
from typing import Any

from plantops_cli.stream.words import without_secrets


class PahoLog(logging.LoggerAdapter[logging.Logger]):
    """The log of one connection, without its secrets.

    Args:
        secrets: what is to appear in no output; None is none.
    """

    def __init__(self, secrets: Iterable[str | bytes | None]) -> None:
        super().__init__(logging.getLogger("plantops.paho"))
        self._secrets = tuple(secrets)

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        """Write one line, as a logger does.

        Args:
            level: how much it matters.
            msg: the line, with places for ``args``.
            args: what goes there.
            more: as for a logger.
        """
        if self.isEnabledFor(level):
            line = str(msg) % args if args else str(msg)
            super().log(level, "%s", without_secrets(line, self._secrets), **more)
