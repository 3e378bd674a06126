"""One session after another, so that a stream outlives its connections."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from typing import Any

from plantops_cli.credentials import KeptPassword
from plantops_cli.errors import BrokerError, ConnectionLostError, CredentialsRefusedError, StateError
from plantops_cli.messages import Message
from plantops_cli.stream import failures
from plantops_cli.stream.account import Account
from plantops_cli.stream.batch import Batch
from plantops_cli.stream.clock import moment_of, since_boot
from plantops_cli.stream.exactly_once import LEAST_BYTES, ExactlyOnce
from plantops_cli.stream.inbox import InHand
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.outgoing import Outgoing
from plantops_cli.stream.port import MakeClient
from plantops_cli.stream.reconnection import Leeway, Reconnection
from plantops_cli.stream.session import AtOnce, Client, Session, open_session
from plantops_cli.stream.status import Connected, Lost, Retrying, State, StatusListeners
from plantops_cli.stream.subscriptions import Subscriptions
from plantops_cli.stream.waiting import unless

logger = logging.getLogger("plantops.stream")


class Lifeline:
    """Connects, reads, and connects again; on one event loop at a time.

    Args:
        options: where and how to connect.
        account: told what was received and missed.
        subscriptions: what to subscribe on each connection.
        reconnection: decides what heals.
        listeners: told about each step.

    Attributes:
        session: the one at hand, or None.
        obstacle: what it waits for instead of being connected, in words; None when it does not wait.
        reader: the task that iterates over ``batches``, or None.
        last_error: why the last attempt to connect failed or the last connection ended, or None.
        failure: what has ended it for good, or None.
        outgoing: what is published.
        kept: the password, if it stands in a file; else it is that of ``options``.
        reconnection: as given.
        make_client: makes the client of each connection. A test kit puts another one in its place, and another
            ``reconnection``.
    """

    def __init__(
        self,
        options: ConnectOptions,
        *,
        account: Account,
        subscriptions: Subscriptions,
        reconnection: Reconnection,
        listeners: StatusListeners,
    ) -> None:
        self.session: Session | None = None
        self.obstacle: str | None = None
        self.reader: asyncio.Task[Any] | None = None
        self.last_error: BrokerError | None = None
        self.failure: Exception | None = None
        self.outgoing = Outgoing(self, options.endpoint)
        self.kept: KeptPassword | None = None
        self.reconnection = reconnection
        self.make_client: MakeClient = Client
        self._options = options
        self._account = account
        self._subscriptions = subscriptions
        self._listeners = listeners
        self._version = options.mqtt_version
        self._exactly_once = ExactlyOnce(max(options.max_pending_bytes, LEAST_BYTES))
        self._in_hand = InHand()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._change = asyncio.Event()
        self._is_begun = False
        self._is_connecting = False
        self._is_warned = False
        self._is_password_new = False
        self._connected_at = self._connected_since_boot = 0.0
        self._leeway = Leeway(options.timeout_seconds)

    @property
    def is_connected(self) -> bool:
        """Whether there is a session, or ``connect`` is about to make one."""
        return self.session is not None or self._is_connecting

    @property
    def is_orphaned(self) -> bool:
        """Whether its event loop was closed, and with it all that it waited for."""
        return self._loop is not None and self._loop.is_closed()

    @property
    def state(self) -> State:
        """Where the subscriber stands."""
        return State.DISCONNECTED if self.is_orphaned else self._account.state

    def enter_loop(self) -> None:
        """Begin anew if another event loop was used before.

        An ``asyncio.run`` that ends without ``disconnect`` leaves tasks and a session that nothing can await.

        Raises:
            StateError: the other one still runs, and the lifeline is in use on it.
        """
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        if (self.is_connected or self.reader) and self._loop and self._loop.is_running():
            raise StateError(
                "the subscriber is in use on another event loop, which still runs",
                hint="disconnect() there first, or call it there: asyncio.run_coroutine_threadsafe(..., loop)",
            )
        self._loop = loop
        self._stop = asyncio.Event()
        self._change = asyncio.Event()
        self.reader = None
        self._is_begun = self._is_connecting = False
        self.outgoing = Outgoing(self, self._options.endpoint)  # whose lock belongs to a loop
        self._subscriptions.abandon()
        self._in_hand = InHand()
        if self.session:
            self._abandon(self.session)

    @property
    def held(self) -> int:
        """How many messages were read and not yet taken."""
        return self.session.held if self.session else 0

    def leave_to_broker(self) -> None:
        """Drop what was read, was not taken, and comes again."""
        if self.session:
            self.session.leave_to_broker()

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more is to be read, so that no connection will be made."""
        return self._stop.is_set()

    @property
    def is_kept_up(self) -> bool:
        """Whether somebody else makes the connection, or a new one when it ends."""
        is_read = self.reader is not None and self.reader is not asyncio.current_task()
        return is_read or self._is_begun or self._is_connecting

    def begin(self) -> None:
        """Let what was stopped go on: somebody is about to read."""
        self._stop.clear()
        self.failure = None
        self._is_begun = True

    def stop(self) -> None:
        """Read nothing more; ``batches`` ends after what has arrived."""
        self._stop.set()
        self._is_begun = False
        if self.session:
            self.session.finish()
        self._tell_of_change()

    async def change(self) -> None:
        """Wait until a connection was made or given up, or it was stopped."""
        await self._change.wait()

    def _tell_of_change(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    def subscribe_soon(self) -> None:
        """Let a connection that is read be asked for what has become wanted."""
        if self.reader and self.session:
            asyncio.get_running_loop().call_soon(self._subscriptions.ask_for_missing, self.session)

    async def connect(self) -> None:
        """Connect once, and subscribe what is wanted.

        Raises:
            BrokerError, ConfigError: as ``MQTTSubscriber.connect``.
            StateError: ``stop`` was called meanwhile.
        """
        self._stop.clear()
        self.failure = None
        self._is_connecting = True
        try:
            session = await unless(self._stop, self._open(Leeway(self._options.timeout_seconds)))
        except asyncio.CancelledError:
            await self.close()
            raise
        finally:
            self._is_connecting = False
            self._tell_of_change()
        if session is None:
            raise StateError("disconnected while connecting")

    async def batches(
        self, at_once: AtOnce | None = None, claim: Callable[[Batch, Session], bool] | None = None
    ) -> AsyncGenerator[Batch, None]:
        """Yield messages across reconnections until ``stop``, as ``MQTTSubscriber.batches``.

        Args:
            at_once: as there.
            claim: as ``Delivery.batches`` has it; it gets the session, too.
        """

        def counted_at_once(batch: Batch) -> bool:
            batch.publish = self.outgoing.publish
            is_done = at_once is not None and at_once(batch)
            if is_done:
                self._account.count(batch)
            return is_done

        def counted_claim(batch: Batch) -> bool:
            is_taken = claim is not None and self.session is not None and claim(batch, self.session)
            if is_taken:
                self._account.count(batch)
            return is_taken

        self.enter_loop()
        self.reader = asyncio.current_task()
        self.failure = None
        self._is_begun = False
        try:
            while session := await self._live_session():
                try:
                    self._subscriptions.ask_for_missing(session)
                    async with aclosing(
                        session.batches(at_once and counted_at_once, claim and counted_claim)
                    ) as batches:
                        async for batch in batches:
                            self._account.count(batch)
                            batch.publish = self.outgoing.publish
                            yield batch
                except BrokerError as exc:
                    await self._lost(session, exc)
                if self._stop.is_set():
                    return
        except Exception as exc:
            self._account.state = State.FAILED
            self.failure = exc
            self._tell_of_change()
            await self.close()
            raise
        finally:
            self.reader = None
            self._tell_of_change()

    async def messages(self) -> AsyncGenerator[Message, None]:
        """Yield messages one at a time, as ``MQTTSubscriber.messages``."""
        async with aclosing(self.batches()) as batches:
            async for batch in batches:
                for message, packets in batch.in_turn():
                    yield message
                    if self.session:
                        self.session.acknowledge(packets)
                        batch.acknowledged += len(packets)

    async def close(self) -> None:
        """Close the session, if there is one, and let nobody wait for its answers."""
        session, self.session = self.session, None
        if session:
            self._account.closed(session)
            await session.close()
        await self._subscriptions.answered()

    async def _live_session(self) -> Session | None:
        """The session at hand, or a new one after as many attempts as it takes; None when stopped."""
        if self.session is None:
            await self._keep_trying()
        if self.session and self._stop.is_set():
            # stopped in the very moment in which the connection was made
            self.session.finish()
        return self.session

    async def _keep_trying(self) -> None:
        error: BrokerError | None = None
        is_first = not self._account.is_in_outage
        while not self._stop.is_set():
            if not is_first:
                await self._pause(error)
            is_first = False
            began = asyncio.get_running_loop().time()
            try:
                await unless(self._stop, self._open(self._leeway))
            except BrokerError as exc:
                now_seconds = asyncio.get_running_loop().time()
                is_new = self._is_password_new
                if not self.reconnection.after_failure(exc, at_seconds=now_seconds, is_password_new=is_new):
                    raise
                error = exc
                if asyncio.get_running_loop().time() - began >= self._leeway.silence_seconds:
                    self._leeway.grow()
                continue
            return

    async def _pause(self, error: BrokerError | None) -> None:
        delay = self.reconnection.next_delay()
        self._account.state = State.WAITING
        self._listeners.tell(Retrying(delay, error))
        with self._waiting_for(str(error) if error else f"{self._options.endpoint}: connection lost"):
            await unless(self._stop, asyncio.sleep(delay))

    @contextmanager
    def _waiting_for(self, obstacle: str) -> Iterator[None]:
        self.obstacle = obstacle
        try:
            yield
        finally:
            self.obstacle = None

    def _take_note_of_connection(self) -> None:
        self.obstacle = f"{self._options.endpoint}: no MQTT answer"

    async def _open(self, leeway: Leeway) -> Session:
        """Connect once and subscribe everything; whatever fails leaves no connection behind."""
        deadline = asyncio.get_running_loop().time() + leeway.seconds
        self._account.state = State.CONNECTING
        self._warn_once()
        endpoint = self._options.endpoint
        try:
            with self._waiting_for(f"{endpoint}: no connection ({', '.join(self._options.layers)})"):
                session = await open_session(
                    replace(self._options_now(), timeout_seconds=leeway.seconds),
                    self._listeners.tell,
                    self._exactly_once,
                    in_hand=self._in_hand,
                    on_reached=self._take_note_of_connection,
                    make_client=self.make_client,
                    patience=leeway.factor,
                )
            try:
                # who waited for the SUBACK here would wait behind all that the broker has kept
                with self._waiting_for(f"{endpoint}: no answer to SUBSCRIBE"):
                    granted = (
                        {} if session.is_resumed else await self._subscriptions.ask_for_all(session, deadline)
                    )
            except BaseException:
                await session.close()
                raise
        except BaseException as exc:
            self._account.state = State.DISCONNECTED
            if isinstance(exc, CredentialsRefusedError):
                self._is_password_new = self.kept is not None and self.kept.note_refused()
            self.last_error = exc if isinstance(exc, BrokerError) else self.last_error
            raise
        # no await from here on: a cancelled task leaves no session that nobody knows of
        self.session, self.last_error = session, None
        self._take_over(session, granted)
        self._tell_of_change()
        return session

    def _options_now(self) -> ConnectOptions:
        password = self._options.password if self.kept is None else self.kept()
        return replace(self._options, mqtt_version=self._version, password=password)

    def _take_over(self, session: Session, granted: dict[str, int] | None) -> None:
        """Take note of a new session, and tell what it is worth.

        Args:
            session: subscribed, or resumed.
            granted: as in ``Connected``; None when the broker's answer is still to come.
        """
        options, is_resumed = session.options, session.is_resumed
        # proven: a broker that merely hangs up while it restarts must not make us fall back; but silence proves
        # nothing, for a broker that was slow once deserves MQTT 5 next time, at the price of 10 s if it is not
        if not session.is_version_a_guess:
            self._version = options.mqtt_version
        self._connected_at = asyncio.get_running_loop().time()
        self.reconnection.note_connection()
        if self.kept:
            self.kept.note_accepted()
        self._account.connected()
        resumed = self._account.close_outage(is_resumed=is_resumed)
        # the next outage begins no sooner than this one ends, and whoever is told of it may take its time
        self._connected_since_boot = since_boot()
        is_answered = granted is not None
        self._listeners.tell(
            Connected(options.endpoint, options.mqtt_version, granted or {}, is_resumed, is_answered=is_answered)
        )
        if is_resumed:
            self._subscriptions.ask_for_missing(session)
        if found := self._account.look_at_session(options, is_resumed=is_resumed):
            self._listeners.tell(found)
        if resumed:
            self._listeners.tell(resumed)

    def _warn_once(self) -> None:
        if not self._is_warned:
            self._is_warned = True
            for danger in self._options.dangers:
                logger.warning("%s", danger)

    async def _lost(self, session: Session, error: BrokerError) -> None:
        """Account for the end of a connection; raise if no reconnection can heal it."""
        # neither now, if a handler has held up what came before the end, nor when it was noticed
        silent_since = max(session.silent_since, self._connected_since_boot)
        await self.close()
        self._account.lost(error, moment_of(silent_since))
        self.last_error = error
        then = self.reconnection.after_loss(
            error, lasted_seconds=session.ended_at - self._connected_at, is_given_up=session.is_given_up
        )
        if then.is_taken_over:
            is_durable = self._options.session_expiry_seconds is not None
            raise failures.taken_over(error.endpoint, is_durable=is_durable) from error
        if not then.heals:
            raise error
        if then.suspicious:
            logger.warning(
                "%s: %d connections in a row ended within seconds: is there another client with the id %r?",
                error.endpoint,
                then.suspicious,
                self._options.client_id,
            )
        self._listeners.tell(Lost(error, since_boot() - silent_since))

    def _abandon(self, session: Session) -> None:
        """Close the socket of a session whose event loop has ended."""
        endpoint = self._options.endpoint
        with suppress(RuntimeError):  # once the socket is closed: the loop is closed, too
            session.fail(ConnectionLostError(f"{endpoint}: the event loop has ended", endpoint=endpoint))
        self.session = None
        self._account.closed(session)
        self._account.state = State.DISCONNECTED
