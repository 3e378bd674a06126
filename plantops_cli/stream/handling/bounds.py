"""How much may be in the hands of handlers at once."""

from dataclasses import asdict, dataclass

from plantops_cli.errors import ConfigError

MAX_UNACKNOWLEDGED = 500
"""How many messages may be in hand by default, handled or not, before nothing more is taken."""

MAX_THREADS = 32
"""How many handlers may block at once by default.

Where they wait, twice as many take half the time (``python -m benchmarks blocking``). But where they compute
instead, each further thread may hold up the event loop for a switch interval (``sys.getswitchinterval``).
"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be in hand at once.

    Args:
        max_unacknowledged: messages in the hands of handlers, or waiting for the acknowledgement of one before
            them; then nothing more is taken.
        max_threads: handlers that block, each in a thread of its own.

    Raises:
        ConfigError: one is no whole number of 1 or more.
    """

    max_unacknowledged: int = MAX_UNACKNOWLEDGED
    max_threads: int = MAX_THREADS

    def __post_init__(self) -> None:
        for name, count in asdict(self).items():
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise ConfigError(f"{name}={count!r} is not possible", hint="a whole number, 1 or more")
