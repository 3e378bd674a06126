"""Users of a broker with the dynamic security plugin, provisioned through MQTT.

The new password travels inside a message, so that nothing is sent where others could read along, and none before
the plugin has answered a harmless question: a broker without it may hand ``$CONTROL`` messages to anybody.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from plantops_cli.errors import CommandRefusedError, ConfigError, SubscriptionRefusedError, shown_username
from plantops_cli.mosquitto.broker.proof import LoginAnswer, log_in, with_wrong_password
from plantops_cli.mosquitto.text import dynsec
from plantops_cli.mosquitto.text.actions import Action
from plantops_cli.mosquitto.text.dynsec import Command, Found, Login, Plan, PluginUser, Response, Wanted
from plantops_cli.mosquitto.text.logins import check_password, check_username
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.session import Session, open_session

COMMAND_SECONDS = 5.0
"""How long the plugin may take to answer a command."""

_ATTEMPTS = 3
_REFUSED = 0x80  # reason codes from here on are refusals (MQTT 5, 2.4)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class DynsecOutcome:
    """The outcome of ``make_client`` and ``delete_client``.

    Attributes:
        action: what became of the user, or with ``dry_run`` would become of it; nothing was changed when it is
            ``UNCHANGED``.
        username: the user.
        password_matches: whether the user has the given password; False only for one who was there with another
            and was not to be overwritten, None when it could not be told, and after a removal.
        notices: what whoever runs it should know, a line each; holds text of the broker, to be escaped.
        is_provable: whether trying to log in would tell something, and disturb nobody.
    """

    action: Action
    username: str
    password_matches: bool | None
    notices: tuple[str, ...] = ()
    is_provable: bool = True


async def make_client(
    admin: ConnectOptions,
    username: str,
    password: bytes,
    *,
    overwrite: bool = True,
    allow_control: bool = False,
    dry_run: bool = False,
    on_ready: Callable[[], None] = lambda: None,
    timeout_seconds: float = COMMAND_SECONDS,
) -> DynsecOutcome:
    """Make sure that a user can log in with a password and read the device topics.

    Whether a user has the password already is found by logging in as it, and with a random wrong one; if so, and
    if it has the role, nothing is changed and nobody's connection is closed. Effective at once.

    Args:
        admin: where the broker is, and an administrator's login.
        username: the user to create or update.
        password: the password as the client will send it; it must be UTF-8.
        overwrite: False to leave a user alone who is there already.
        allow_control: True to allow control characters in the password, but for NUL, CR and LF.
        dry_run: True to find out only what would be done; the logins are tried all the same.
        on_ready: called once before the first command that changes something.
        timeout_seconds: how long the plugin may take to answer a command.

    Raises:
        ConfigError: the user name or the password is not allowed, the user is the administrator, or the
            connection would be open to eavesdroppers; nothing was sent.
        CommandRefusedError: the broker refused a command, or did not answer it.
        BrokerError: no connection came about, or it ended.
    """
    check_username(username)
    check_password(password, allow_control=allow_control)
    _refuse_administrator(admin, username)
    wanted = Wanted(username, _text(password), overwrite)

    async def look(line: "_Line") -> Plan:
        return dynsec.plan_provisioning(wanted, await _find(line, wanted))

    return await _carry_out(
        admin, username, look, dry_run=dry_run, on_ready=on_ready, timeout_seconds=timeout_seconds
    )


async def delete_client(
    admin: ConnectOptions, username: str, *, dry_run: bool = False, timeout_seconds: float = COMMAND_SECONDS
) -> DynsecOutcome:
    """Make sure that a user is gone; its connections are closed at once.

    Args:
        admin: where the broker is, and an administrator's login.
        username: the user to remove.
        dry_run: True to find out only what would be done.
        timeout_seconds: how long the plugin may take to answer a command.

    Raises:
        ConfigError: the user is the administrator, or as in ``make_client``.
        CommandRefusedError: the broker refused a command, or did not answer it.
        BrokerError: no connection came about, or it ended.
    """
    check_username(username)
    _refuse_administrator(admin, username)

    async def look(line: "_Line") -> Plan:
        return dynsec.plan_removal(username, await _find_user(line, username))

    return await _carry_out(admin, username, look, dry_run=dry_run, timeout_seconds=timeout_seconds)


async def list_clients(
    admin: ConnectOptions, *, timeout_seconds: float = COMMAND_SECONDS
) -> tuple[PluginUser, ...]:
    """Return all users that the plugin knows, administrators included.

    Args:
        admin: where the broker is, and an administrator's login.
        timeout_seconds: how long the plugin may take to answer.

    Raises:
        ConfigError: the connection would be open to eavesdroppers.
        CommandRefusedError: the broker refused the command, or did not answer it.
        BrokerError: no connection came about, or it ended.
    """
    async with _administering(admin, timeout_seconds=timeout_seconds) as line:
        found = await line.get(dynsec.list_all_users(), dynsec.parse_users)
    return found or ()


def refuse_plain_text(options: ConnectOptions) -> None:
    """Refuse a connection on which an eavesdropper could read passwords.

    Args:
        options: where and how to connect.

    Raises:
        ConfigError: it has no TLS, and leads neither to a loopback address nor to a Unix socket.
    """
    # the message carries a password even where the administrator's login has none
    if options.tls is None and replace(options, password=b"any").dangers:
        raise ConfigError(
            f"{options.endpoint}: the new password and the administrator's would cross the network unencrypted",
            hint="use TLS, or run it on the broker's machine",
        )


@dataclass(frozen=True, slots=True)
class _Line:
    """An administrator's connection on which the answers are subscribed to."""

    session: Session
    timeout_seconds: float

    async def ask(self, command: Command) -> Response:
        """Give one command and return its answer, be it an error."""
        endpoint = self.session.options.endpoint
        correlation = secrets.token_hex(8)
        payload = dynsec.request(command, correlation=correlation)
        try:
            async with asyncio.timeout(self.timeout_seconds):
                code = await self.session.publish(dynsec.CONTROL_TOPIC, payload, qos=1, retain=False)
                if code >= _REFUSED:
                    raise _not_an_administrator(self.session.options, f"PUBACK 0x{code:02x}")
                return await self._answer(correlation)
        except TimeoutError:
            raise CommandRefusedError(
                f"{endpoint}: no answer to {command.name} within {self.timeout_seconds:g} s",
                endpoint=endpoint,
                hint="has the broker the dynamic security plugin, "
                f"and may {_who(self.session.options)} administer it?",
            ) from None

    async def get(
        self, question: Command, parse: Callable[[Mapping[str, object]], _T], *, unless: str = ""
    ) -> _T | None:
        """Ask a question and parse the answer; None when the error of the answer is ``unless``."""
        response = await self.ask(question)
        if response.error is not None and response.error == unless:
            return None
        if response.error is not None:
            raise self.refusal(question, response.error)
        try:
            return parse(response.data)
        except ValueError as exc:
            raise self.refusal(question, f"an answer that makes no sense: {exc}") from exc

    async def carry_out(self, commands: tuple[Command, ...]) -> tuple[int, CommandRefusedError | None]:
        """Give commands until one fails; return how many succeeded, and the refusal."""
        for position, command in enumerate(commands):
            response = await self.ask(command)
            if response.error is not None:
                return position, self.refusal(command, response.error)
        return len(commands), None

    def refusal(self, command: Command, error: str) -> CommandRefusedError:
        """Say that the broker refused a command, and why; a broker that repeats the password is not quoted."""
        password = command.arguments.get("password")
        reason = error.replace(password, "...") if isinstance(password, str) else error
        endpoint = self.session.options.endpoint
        return CommandRefusedError(f"{endpoint}: {command.name} failed: {reason}", endpoint=endpoint)

    async def _answer(self, correlation: str) -> Response:
        async with aclosing(self.session.batches()) as batches:
            async for batch in batches:
                for message in batch:
                    found = dynsec.find_response(message.payload, correlation=correlation)
                    if found is not None:
                        return found
        raise AssertionError("a session that nobody finishes ends with an error")


@asynccontextmanager
async def _administering(admin: ConnectOptions, *, timeout_seconds: float) -> AsyncIterator[_Line]:
    refuse_plain_text(admin)
    session = await open_session(admin)
    try:
        # QoS 0: the answers come at no other, and need no acknowledgement
        await session.subscribe({dynsec.RESPONSE_TOPIC: 0})
        yield _Line(session, timeout_seconds)
    except SubscriptionRefusedError as exc:
        codes = ", ".join(f"SUBACK 0x{code:02x}" for code in exc.filters.values())
        raise _not_an_administrator(admin, codes) from exc
    finally:
        await session.close()


async def _carry_out(
    admin: ConnectOptions,
    username: str,
    look: Callable[[_Line], Awaitable[Plan]],
    *,
    dry_run: bool,
    timeout_seconds: float,
    on_ready: Callable[[], None] = lambda: None,
) -> DynsecOutcome:
    """Look, then do; look again after a refusal, for another run may have been faster."""
    done, is_begun = 0, False
    async with _administering(admin, timeout_seconds=timeout_seconds) as line:
        for attempt in range(1, _ATTEMPTS + 1):
            plan = await look(line)
            if dry_run:
                break
            if plan.commands and not is_begun:
                on_ready()
                is_begun = True
            count, refusal = await line.carry_out(plan.commands)
            done += count
            if refusal is None:
                break
            if attempt == _ATTEMPTS:
                raise refusal
    is_repaired = done > 0 and plan.action is Action.UNCHANGED
    action = Action.UPDATED if is_repaired else plan.action
    return DynsecOutcome(action, username, plan.password_matches, plan.notices, plan.is_provable)


async def _find(line: _Line, wanted: Wanted) -> Found:
    defaults = await line.get(dynsec.get_defaults(), dynsec.parse_defaults)
    role = await line.get(dynsec.get_role(), dynsec.parse_role, unless=dynsec.ROLE_NOT_FOUND)
    user = await _find_user(line, wanted.username)
    login = Login.UNTRIED
    if user is not None and not user.is_disabled and user.client_id is None:
        login = await _try_login(line.session.options, wanted)
    return Found(role, user, login, defaults or frozenset())


async def _find_user(line: _Line, username: str) -> PluginUser | None:
    return await line.get(dynsec.get_user(username), dynsec.parse_user, unless=dynsec.CLIENT_NOT_FOUND)


async def _try_login(options: ConnectOptions, wanted: Wanted) -> Login:
    right = replace(options, username=wanted.username, password=wanted.password)
    if await log_in(right) is LoginAnswer.REFUSED:
        return Login.DIFFERS
    return Login.MATCHES if await log_in(with_wrong_password(right)) is LoginAnswer.REFUSED else Login.OPEN


def _text(password: bytes) -> str:
    try:
        return password.decode()
    except UnicodeDecodeError:
        # from None: the foreign error carries the password
        raise ConfigError(
            "the password is not UTF-8, and the dynamic security plugin takes text only",
            hint="choose one that is text, or use a password file",
        ) from None


def _refuse_administrator(admin: ConnectOptions, username: str) -> None:
    if username == admin.username:
        raise ConfigError(
            f"user {username!r} is the administrator whose login is used",
            hint="name the user that plantops is to read with; mosquitto_ctrl dynsec changes administrators",
        )


def _not_an_administrator(options: ConnectOptions, why: str) -> CommandRefusedError:
    return CommandRefusedError(
        f"{options.endpoint}: {_who(options)} may not administer the dynamic security plugin ({why})",
        endpoint=options.endpoint,
        hint=f"it needs a role with the right to {dynsec.CONTROL_TOPIC}/#, as mosquitto_ctrl dynsec init makes",
    )


def _who(options: ConnectOptions) -> str:
    return "an anonymous client" if options.username is None else f"user {shown_username(options.username)!r}"
