"""The clock by which outages are measured: it goes on while the machine sleeps.

``time.monotonic()``, and with it the clock of the event loop, stands still in a suspend on Linux, so that hours
without a broker would count as nothing.
"""

import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from plantops_cli.messages import now

# macOS knows no such name: there CLOCK_MONOTONIC goes on, and what time.monotonic() takes does not
_GOES_ON = getattr(time, "CLOCK_BOOTTIME", None) or (time.CLOCK_MONOTONIC if sys.platform == "darwin" else None)


since_boot: Callable[[], float] = time.monotonic if _GOES_ON is None else partial(time.clock_gettime, _GOES_ON)
"""Returns seconds of a clock that never goes back, and goes on while the machine sleeps."""


def moment_of(moment: float) -> datetime:
    """Return a moment of ``since_boot`` in UTC."""
    return now() - timedelta(seconds=since_boot() - moment)
