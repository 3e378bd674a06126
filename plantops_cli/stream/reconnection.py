"""What heals and what does not: what follows a lost connection, or an attempt that failed. Pure: it only decides.

A broker of MQTT 5 tells a client that another one has taken over its session (DISCONNECT 0x8E; MQTT 5, 3.1.4). One
of MQTT 3.1.1 just hangs up, and two clients with one id throw each other out for ever; connections in a row that
each ended within seconds are taken for that.
"""

from dataclasses import dataclass

from plantops_cli.errors import BrokerError
from plantops_cli.stream.backoff import STABLE_SECONDS, Backoff

KICKS_OF_A_TAKEOVER = 3
"""So many connections in a row that ended within seconds mean that another client uses our client id."""

# a durable session outlives a broker that crashes again and again, and restarts too fast for us to notice
KICKS_OF_A_TAKEOVER_IF_DURABLE = 20
"""The same for a durable session."""


@dataclass(frozen=True, slots=True)
class AfterLoss:
    """What follows the end of a connection.

    Attributes:
        heals: whether to connect again.
        is_taken_over: whether it does not because another client uses our client id, whatever the broker said.
        suspicious: how many connections in a row another client may have ended, when it is time to say so; else 0.
    """

    heals: bool
    is_taken_over: bool = False
    suspicious: int = 0


class Reconnection:
    """Decides whether to connect again, and when.

    Args:
        has_own_client_id: whether the client id was chosen, so that another client may have it as well.
        is_durable: whether the broker keeps the session.
        backoff: draws the delays; default: the usual one.
        stable_seconds: a connection that ended before may have been taken over.
    """

    def __init__(
        self,
        *,
        has_own_client_id: bool = False,
        is_durable: bool = False,
        backoff: Backoff | None = None,
        stable_seconds: float = STABLE_SECONDS,
    ) -> None:
        self._has_own_client_id = has_own_client_id
        self._is_durable = is_durable
        self._backoff = backoff or Backoff()
        self._stable_seconds = stable_seconds
        self._kicks = 0

    def after_loss(self, error: BrokerError, *, lasted_seconds: float, is_given_up: bool) -> AfterLoss:
        """Decide what follows the end of a connection.

        Args:
            error: why it ended.
            lasted_seconds: how long it was up.
            is_given_up: whether it was this side that ended it; nobody else has thrown us out then.
        """
        self._backoff.connection_ended(lasted_seconds)
        is_kick = lasted_seconds < self._stable_seconds and not is_given_up
        self._kicks = self._kicks + 1 if is_kick else 0
        if not error.retryable:
            return AfterLoss(heals=False)
        bound = KICKS_OF_A_TAKEOVER_IF_DURABLE if self._is_durable else KICKS_OF_A_TAKEOVER
        if self._has_own_client_id and self._kicks >= bound:
            return AfterLoss(heals=False, is_taken_over=True)
        is_time = self._is_durable and self._kicks == KICKS_OF_A_TAKEOVER
        return AfterLoss(heals=True, suspicious=self._kicks if is_time else 0)

    def after_failure(self, error: BrokerError) -> bool:
        """Decide whether to try again after an attempt to connect that failed.

        Args:
            error: why it failed.
        """
        # whoever took our client id over would not keep us from connecting
        self._kicks = 0
        return error.retryable

    def next_delay(self) -> float:
        """Draw how many seconds to wait before the next attempt."""
        return self._backoff.next_delay()
