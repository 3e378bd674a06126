"""What can be seen of a subscriber: what it was given, and how it fares."""

from dataclasses import replace

from plantops_cli.errors import shown_username
from plantops_cli.stream.account import Account
from plantops_cli.stream.handling.handlers import Handlers
from plantops_cli.stream.handling.registration import Handler
from plantops_cli.stream.handling.tally import Tally
from plantops_cli.stream.hearing import Hearing
from plantops_cli.stream.lifeline import Lifeline
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.session import AiomqttClient
from plantops_cli.stream.status import Health, StatusListener, StatusListeners


class Standing:
    """What an ``MQTTSubscriber`` shows of itself, and whom it tells."""

    _options: ConnectOptions
    _lifeline: Lifeline
    _handlers: Handlers
    _tally: Tally
    _account: Account
    _listeners: StatusListeners

    def __repr__(self) -> str:
        username = self._options.username
        is_token = self._options.is_token
        who = "" if username is None else f", username={shown_username(username, is_alone=is_token)!r}"
        return f"<MQTTSubscriber {self._options.endpoint}{who}, {self._lifeline.state}>"

    @property
    def host(self) -> str:
        """Name or address of the broker."""
        return self._options.host

    @property
    def port(self) -> int:
        """The broker's TCP port."""
        return self._options.port

    @property
    def username(self) -> str | None:
        """MQTT user name, or None for an anonymous client."""
        return self._options.username

    @property
    def password(self) -> str | bytes | None:
        """MQTT password as given, or as it stands in its file; None if a function gives it. Only this shows it."""
        password = self._lifeline.kept() if self._lifeline.kept else self._options.password
        return password if isinstance(password, (str, bytes)) else None

    @property
    def client(self) -> AiomqttClient | None:
        """The live ``aiomqtt.Client``, for publishing; None while there is no connection."""
        session = self._lifeline.session
        return session.client if session and not self._lifeline.is_orphaned else None

    @property
    def options(self) -> ConnectOptions:
        """Where it connects, as whom and how; the password does not show."""
        return self._options

    @property
    def handlers(self) -> dict[str, list[Handler]]:
        """The registered handlers by topic filter."""
        return self._handlers.by_filter

    @property
    def health(self) -> Health:
        """A snapshot of state and counters."""
        return replace(self._account.health(self._lifeline.session, self._tally), state=self._lifeline.state)

    @property
    def invalid_by_device(self) -> dict[str, int]:
        """How many messages did not fit the types of a handler: by device, or by topic; of the first 10,000."""
        return dict(self._tally.invalid_by_device)

    @property
    def obstacle(self) -> str | None:
        """What it waits for instead of being connected, in words; None when it is connected, or does not try."""
        return self._lifeline.obstacle

    @property
    def heard_at(self) -> float | None:
        """When something came from the broker last, be it the answer to a ping, by the clock of the event loop.

        Until then it is certain that a message would have arrived; None while there is no connection.
        """
        return self._lifeline.session.heard_at if self._lifeline.session else None

    @property
    def hearing(self) -> Hearing | None:
        """What is known of when the broker was heard, on the connection at hand; None while there is none."""
        return self._lifeline.session.hearing if self._lifeline.session else None

    def add_status_listener(self, listener: StatusListener) -> None:
        """Call ``listener`` with each step from now on; one that raises is logged, and ends nothing."""
        self._listeners.add(listener)

    def remove_status_listener(self, listener: StatusListener) -> None:
        """Tell a listener no more that was added, or given as ``on_status``; nothing happens when it is none."""
        self._listeners.remove(listener)
