"""What the broker is asked for: the topic filters of a subscriber, the QoS of each, and the answers.

A SUBACK comes behind all that the broker has sent before, which may be any number of messages (MQTT 5, 3.8.4). So
each question runs in a task of its own, while somebody takes the messages.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from plantops_cli.errors import BrokerError, ConfigError, HeldUpError, StateError
from plantops_cli.messages import check_qos
from plantops_cli.stream import failures
from plantops_cli.stream.asking import is_shared
from plantops_cli.stream.options import MQTTVersion
from plantops_cli.stream.session import Session
from plantops_cli.topics import check_filter

logger = logging.getLogger("plantops.stream")

_PATIENCE_SECONDS = 3600.0
# how often it is looked whether messages come instead of an answer, and when a silence is told behind the deadline
_LOOK_SECONDS, _GRACE_SECONDS = 2.5, 0.1


class Subscriptions:
    """The topic filters of a subscriber, asked for on each of its connections.

    Args:
        qos: the QoS asked for where none is named.
        group: name of a shared subscription (MQTT 5, 4.8.2), or None.
        on_qos_0: told where the broker granted no more than QoS 0.
        version: the MQTT version that was chosen. On 3.1.1, where nothing tells whether the broker shares, it is
            asked to only if that was it.
        group_anyway: whether to ask any broker for shared subscriptions.

    Attributes:
        wanted: the QoS asked for each topic filter.

    Raises:
        ConfigError: there is no such QoS, or the name is not usable.
    """

    def __init__(
        self,
        *,
        qos: int,
        group: str | None,
        on_qos_0: Callable[[str], None],
        version: MQTTVersion = MQTTVersion.AUTO,
        group_anyway: bool = False,
    ) -> None:
        self.wanted: dict[str, int] = {}
        self._qos = check_qos(qos)
        self._group = _check_group(group)
        self._on_qos_0 = on_qos_0
        self._is_sharing_trusted = group_anyway
        self._is_sharing_hoped_for = group_anyway or version is MQTTVersion.V311
        self._is_hope_said = False
        self._is_less_said = False
        self._asking: set[asyncio.Task[dict[str, int]]] = set()

    def want(self, topic_filter: str, qos: int | None) -> None:
        """Take note of a topic filter, for this connection and the next ones.

        Args:
            topic_filter: a topic filter.
            qos: highest QoS wanted; None: as before, else the usual one.

        Raises:
            TopicError: the filter is not valid (MQTT 4.7).
            ConfigError: there is no such QoS.
        """
        check_filter(topic_filter)
        if qos is not None or topic_filter not in self.wanted:
            self.wanted[topic_filter] = check_qos(self._qos if qos is None else qos)

    def forget(self, topic_filter: str) -> None:
        """Drop a topic filter, so that the next connection does not stumble over it."""
        del self.wanted[topic_filter]

    def ask(
        self, session: Session, filters: Mapping[str, int], *, timeout_seconds: float = _PATIENCE_SECONDS
    ) -> asyncio.Task[dict[str, int]]:
        """Subscribe in a task, and return what was granted to each filter.

        Args:
            session: where to subscribe.
            filters: some of ``wanted``.
            timeout_seconds: how long the broker may say nothing at all before its answer.
        """
        # noted at once, so that nobody asks for the same again before the task has begun
        session.filters.update({self._wire(name): qos for name, qos in filters.items()})
        asking = asyncio.create_task(
            self._subscribe(session, filters, timeout_seconds=timeout_seconds), name="plantops-subscribe"
        )
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        return asking

    async def ask_for_one(self, session: Session | None, topic_filter: str) -> int | None:
        """Subscribe a filter, and return the QoS that was granted; None without a connection or a soon answer.

        Args:
            session: where to subscribe, if there is one.
            topic_filter: one of ``wanted``.

        Raises:
            SubscriptionRefusedError, HeldUpError, BrokerError: as ``MQTTSubscriber.subscribe``.
        """
        if session is None or session.client is None:
            return None
        asking = self.ask(session, {topic_filter: self.wanted[topic_filter]})
        try:
            async with session.client.answerable():
                await asyncio.wait((asking,), timeout=session.options.timeout_seconds)
        finally:
            if not asking.done():
                asking.add_done_callback(partial(_end_if_failed, session))
        return asking.result()[topic_filter] if asking.done() else None

    def ask_for_missing(self, session: Session) -> None:
        """Subscribe what the session was not asked for yet; a refusal ends the session."""
        missing = {name: qos for name, qos in self.wanted.items() if self._wire(name) not in session.filters}
        # a connection that has ended already still holds messages to be yielded
        if missing and session.client:
            self.ask(session, missing).add_done_callback(partial(_end_if_failed, session))

    async def ask_for_all(self, session: Session, deadline: float) -> dict[str, int] | None:
        """Subscribe everything on a new connection, and return what was granted.

        None when messages come before the answer, and are to be handled first.

        Args:
            session: where to subscribe.
            deadline: moment of the event loop's clock at which the broker may have been silent long enough.

        Raises:
            BrokerError: a filter was refused, or the connection ended.
        """
        clock = asyncio.get_running_loop().time
        asking = self.ask(session, self.wanted, timeout_seconds=max(deadline - clock(), 0.0))
        deadline += _GRACE_SECONDS
        try:
            with suppress(HeldUpError):
                while session.client and not asking.done() and clock() < deadline:
                    async with session.client.answerable():
                        await asyncio.wait((asking,), timeout=min(_LOOK_SECONDS, deadline - clock()))
                    if session.held:
                        break
            if session.client is None or asking.done():
                return await asking
        except BaseException:
            asking.cancel()
            raise
        asking.add_done_callback(partial(_end_if_failed, session))
        return None

    async def answered(self) -> None:
        """Wait until every question has its answer; a session that was closed gives it at once."""
        if self._asking:
            await asyncio.wait(self._asking)

    def abandon(self) -> None:
        """Forget the questions of an event loop that has ended."""
        self._asking.clear()

    async def _subscribe(
        self, session: Session, filters: Mapping[str, int], *, timeout_seconds: float
    ) -> dict[str, int]:
        names = {self._wire(name): name for name in filters}
        wanted = {wired: filters[name] for wired, name in names.items()}
        self._check_sharing(session, [name for name in wanted if is_shared(name)])
        answer = await session.subscribe(
            wanted, timeout_seconds=timeout_seconds, is_sharing_trusted=self._is_sharing_trusted
        )
        self._say_if_less(session.max_qos, max(filters.values(), default=0), session.options.endpoint)
        granted = {names[wired]: qos for wired, qos in answer.items()}
        for name, qos in granted.items():
            if not qos:
                self._on_qos_0(f"the broker granted QoS 0 to {name!r}")
        return granted

    def _check_sharing(self, session: Session, filters: Sequence[str]) -> None:
        """Ask for no shared subscription where it would hear nothing, or say that it may.

        Args:
            session: where it is to be asked for.
            filters: those of members of a group.

        Raises:
            SubscriptionRefusedError: MQTT 3.1.1 was nobody's choice, and nobody insists.
        """
        # of one that speaks MQTT 5 the session knows what it has said
        if session.has_properties or not filters:
            return
        endpoint = session.options.endpoint
        if not self._is_sharing_hoped_for:
            silent_seconds = session.silent_seconds if session.is_version_a_guess else None
            raise failures.sharing_unknown(filters, endpoint=endpoint, silent_seconds=silent_seconds)
        if not self._is_hope_said:
            self._is_hope_said = True
            logger.warning(
                "%s: MQTT 3.1.1 has no shared subscriptions: unless the broker shares all the same, nothing comes",
                endpoint,
            )

    def _say_if_less(self, most: int, asked: int, endpoint: str) -> None:
        if asked > most and not self._is_less_said:
            self._is_less_said = True
            logger.warning(
                "%s: the broker takes QoS %d at most: subscribed so, not at QoS %d", endpoint, most, asked
            )

    def _wire(self, topic_filter: str) -> str:
        """The filter as the broker sees it: as that of a member of the group, if there is one."""
        return (
            topic_filter
            if self._group is None or is_shared(topic_filter)
            else f"$share/{self._group}/{topic_filter}"
        )


def _end_if_failed(session: Session, asking: asyncio.Task[dict[str, int]]) -> None:
    """End a session over filters that were refused when nobody waited for the answer any more."""
    with suppress(StateError, asyncio.CancelledError):  # closed meanwhile
        try:
            asking.result()
        except BrokerError as exc:
            if not session.is_finishing:
                session.fail(exc)


def _check_group(group: str | None) -> str | None:
    if group is not None and (
        not group or not group.isprintable() or any(character in group for character in "/+#")
    ):
        raise ConfigError(f"group {group!r} is not usable", hint="printable text without / + # (MQTT 5, 4.8.2)")
    return group
