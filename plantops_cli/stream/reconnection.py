"""What heals and what does not: what follows a lost connection, or an attempt that failed. Pure: it only decides.

A broker of MQTT 5 tells a client that another one has taken over its session (DISCONNECT 0x8E; MQTT 5, 3.1.4). One
of MQTT 3.1.1 just hangs up, and two clients with one id throw each other out for ever; connections in a row that
each ended within seconds are taken for that.

A login that is refused is wrong and stays so, unless it was right a moment ago: then somebody may be changing its
password, of which broker and client cannot hear in the same instant.
"""

import math
from dataclasses import dataclass

from plantops_cli.errors import BrokerError, ConfigError, CredentialsRefusedError
from plantops_cli.stream.backoff import STABLE_SECONDS, Backoff

KICKS_OF_A_TAKEOVER = 3
"""So many connections in a row that ended within seconds mean that another client uses our client id."""

# a durable session outlives a broker that crashes again and again, and restarts too fast for us to notice
KICKS_OF_A_TAKEOVER_IF_DURABLE = 20
"""The same for a durable session."""


LOGIN_PATIENCE_SECONDS = 60.0
"""How long a login that was right may be refused, if its password may change."""

LOGIN_DELAY_SECONDS = 5.0
"""Upper bound of the delays meanwhile."""

MOST_SECONDS = 60.0
"""Up to this the time of an attempt grows; more only who asks for it gets."""

# silence below MQTT ends an attempt after this
SHORTEST_SILENCE_SECONDS = 10.0


class Leeway:
    """How long an attempt to connect may take: longer after each one that was met with silence.

    A broker that is slower than was thought would never be reached by attempts that all give up before its answer.

    Args:
        seconds: what was asked for.
    """

    def __init__(self, seconds: float) -> None:
        self._asked_seconds = seconds
        self.factor = 1.0

    @property
    def seconds(self) -> float:
        """How long the next attempt may take."""
        return self._asked_seconds * self.factor

    @property
    def silence_seconds(self) -> float:
        """An attempt that failed after so long was met with silence."""
        return min(self.seconds, SHORTEST_SILENCE_SECONDS * self.factor)

    def grow(self) -> None:
        """Give the next attempt twice the time, up to ``MOST_SECONDS``."""
        most = max(self._asked_seconds, MOST_SECONDS)
        self.factor = min(self.factor * 2, most / self._asked_seconds)


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
        login_patience_seconds: how long a login may be refused that was right before.

    Attributes:
        login_patience_seconds: as given.
    """

    def __init__(
        self,
        *,
        has_own_client_id: bool = False,
        is_durable: bool = False,
        backoff: Backoff | None = None,
        stable_seconds: float = STABLE_SECONDS,
        login_patience_seconds: float = 0.0,
    ) -> None:
        self.login_patience_seconds = login_patience_seconds
        self._has_own_client_id = has_own_client_id
        self._is_durable = is_durable
        self._backoff = backoff or Backoff()
        self._stable_seconds = stable_seconds
        self._kicks = 0
        self._was_right = False
        self._refused_since: float | None = None
        self._longest_delay = math.inf

    def note_connection(self) -> None:
        """Take note that a connection came about, so that the login is right."""
        self._was_right = True
        self._refused_since = None
        self._longest_delay = math.inf

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

    def after_failure(self, error: BrokerError, *, at_seconds: float = 0.0, is_password_new: bool = False) -> bool:
        """Decide whether to try again after an attempt to connect that failed.

        Args:
            error: why it failed.
            at_seconds: when, by a clock that never goes back.
            is_password_new: whether another password is at hand that has not been refused.
        """
        # whoever took our client id over would not keep us from connecting
        self._kicks = 0
        self._longest_delay = math.inf
        if not isinstance(error, CredentialsRefusedError):
            return error.retryable
        self._longest_delay = 0.0 if is_password_new else LOGIN_DELAY_SECONDS
        return self._was_right and (is_password_new or self._is_patient(at_seconds))

    def _is_patient(self, at_seconds: float) -> bool:
        if self._refused_since is None:
            self._refused_since = at_seconds
        # not even at the first refusal, if there is no patience at all
        return at_seconds < self._refused_since + self.login_patience_seconds

    def next_delay(self) -> float:
        """Draw how many seconds to wait before the next attempt."""
        return min(self._backoff.next_delay(), self._longest_delay)


def choose_patience(login_patience_seconds: float | None, *, may_change: bool) -> float:
    """Choose how long a login may be refused that was right before: what may change gets time to.

    Args:
        login_patience_seconds: what was asked for, or None.
        may_change: whether the password is read or asked for anew.

    Raises:
        ConfigError: it is less than nothing, or endless.
    """
    if login_patience_seconds is None:
        return LOGIN_PATIENCE_SECONDS if may_change else 0.0
    if not 0 <= login_patience_seconds < math.inf:
        raise ConfigError(
            f"a patience of {login_patience_seconds} s with refused logins is out of range",
            hint="0 s for none, or more",
        )
    return login_patience_seconds
