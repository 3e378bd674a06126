"""Proofs that a broker treats a login as it should, by logging in for real.

A reload that the broker was asked for proves nothing: it may come late, read another file, or leave the broker
open to everybody. Four answers of the broker do: to the right password, to a wrong one, to an anonymous client,
and to a message that the user has no right to publish.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from plantops_cli.errors import (
    BrokerUnreachableError,
    ConfigError,
    ConnectionLostError,
    CredentialsRefusedError,
    ProofError,
)
from plantops_cli.stream.options import ConnectOptions, MQTTVersion, random_client_id
from plantops_cli.stream.session import Session, open_session

NOT_AUTHORIZED = 0x87
_FAILURE = 0x80
_SELFCHECK = "plantops/selfcheck"
_RETRY_SECONDS = 0.3

# Each wrong password costs the broker, in its only thread, as much as a right one: four tries, and with the wrong
# password and the anonymous client that follow the last of them at most five refusals
_TRIES = (0.0, 0.05, 0.2, 1.0)

_BROKER_OPEN = (
    "it has allow_anonymous true and no password_file in force, or a reload failed and left it open: "
    "look into its log and restart it"
)
_OTHER_FILE = "reload the broker (SIGHUP), and compare its password_file with the file that was changed"
_ACL_OFF = (
    "a reload with a bad ACL file drops access control until the broker is restarted; or the file gives the user "
    "more than reading"
)


class LoginAnswer(StrEnum):
    """What a broker answers to a login."""

    ACCEPTED = "accepted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Proof:
    """What ``prove_login`` found; the right password is accepted and a wrong one is refused.

    Attributes:
        endpoint: the broker's address.
        accepted_after_seconds: from the first try to the first login that was accepted.
        is_anonymous_accepted: whether a client without user name and password is let in.
        is_publish_refused: whether the broker refused a message to a topic that is not the user's; None when
            it could not be known.
        notices: what a person should know, a line each.
    """

    endpoint: str
    accepted_after_seconds: float
    is_anonymous_accepted: bool
    is_publish_refused: bool | None
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemovalProof:
    """What ``prove_removal`` found.

    Attributes:
        endpoint: the broker's address.
        refused_after_seconds: from the first try to the first login that was refused; None when nothing is
            proven.
        notices: what a person should know, a line each.
    """

    endpoint: str
    refused_after_seconds: float | None
    notices: tuple[str, ...]


def _nothing_known() -> str | None:
    return None


async def prove_login(
    options: ConnectOptions,
    *,
    is_acl_in_force: bool,
    patience_seconds: float = 3.0,
    explain_refusal: Callable[[], str | None] = _nothing_known,
) -> Proof:
    """Prove that a broker takes the right password, refuses a wrong one, and guards its topics.

    At most five logins are refused on the way. The client ids are random, the sessions clean, and what is
    published is an empty message that is not retained.

    Args:
        options: where to connect and as whom; the client id is not used.
        is_acl_in_force: whether the broker has an ACL file, by which the user may only read.
        patience_seconds: how long a broker that was just told to reload may go on refusing the right password,
            or may not answer at all.
        explain_refusal: called when the right password stays refused; returns the reason, if it knows one.

    Raises:
        ConfigError: there is no user name or no password to prove.
        ProofError: the right password is refused, a wrong one accepted, or the ACL is not in force.
        BrokerError: the broker did not answer, or not in a way that tells.
    """
    _check_provable(options)
    clock = asyncio.get_running_loop().time
    start_seconds = clock()
    if not await _comes(LoginAnswer.ACCEPTED, options, patience_seconds=patience_seconds):
        raise right_password_refused(options, explanation=explain_refusal())
    accepted_after_seconds = clock() - start_seconds
    if await _answer(with_wrong_password(options), patience_seconds=patience_seconds) is LoginAnswer.ACCEPTED:
        raise wrong_password_accepted(options)
    # not an error by itself, for it may be meant; but whoever reads "proven" should know
    nobody = replace(options, username=None, password=None)
    is_anonymous_accepted = await _answer(nobody, patience_seconds=patience_seconds) is LoginAnswer.ACCEPTED
    is_publish_refused, code = await probe_acl(options)
    if is_acl_in_force and is_publish_refused is False:
        raise acl_not_in_force(options)
    return Proof(
        endpoint=options.endpoint,
        accepted_after_seconds=accepted_after_seconds,
        is_anonymous_accepted=is_anonymous_accepted,
        is_publish_refused=is_publish_refused,
        notices=_notices(
            options, is_anonymous_accepted=is_anonymous_accepted, is_refused=is_publish_refused, code=code
        ),
    )


async def prove_removal(
    options: ConnectOptions,
    *,
    patience_seconds: float = 3.0,
    explain_acceptance: Callable[[], str | None] = _nothing_known,
) -> RemovalProof:
    """Prove that a broker refuses a login that was removed.

    Without its password nothing can be proven, for a broker answers to a wrong one as it does to an unknown
    user; then nothing is tried, and a notice says so.

    Args:
        options: where to connect and as whom; the client id is not used.
        patience_seconds: how long a broker that was just told to reload may go on accepting the login, or may
            not answer at all.
        explain_acceptance: called when the login stays accepted; returns the reason, if it knows one.

    Raises:
        ConfigError: there is no user name.
        ProofError: the login is still accepted.
        BrokerError: the broker did not answer, or not in a way that tells.
    """
    if options.username is None:
        raise ConfigError("no user name is given, so that no removal can be proven")
    if not options.password:
        notice = f"that {options.username!r} cannot log in any more is not proven: its password is not known"
        return RemovalProof(options.endpoint, None, (notice,))
    clock = asyncio.get_running_loop().time
    start_seconds = clock()
    if not await _comes(LoginAnswer.REFUSED, options, patience_seconds=patience_seconds):
        explanation = explain_acceptance()
        why = explanation or "it reads another password file, was not reloaded, or is open to all"
        raise ProofError(
            f"{options.endpoint}: the broker still accepts {options.username!r}: {why}",
            hint=None if explanation else _OTHER_FILE,
        )
    return RemovalProof(options.endpoint, clock() - start_seconds, ())


async def log_in(options: ConnectOptions) -> LoginAnswer:
    """Log in once, with a client id of its own, and leave again.

    Args:
        options: where to connect and as whom; the client id is not used.

    Raises:
        BrokerError: the broker answered neither yes nor no; a connection closed without a CONNACK, too.
        ConfigError: a TLS file is missing or unusable.
    """
    try:
        session = await _open(options)
    except CredentialsRefusedError:
        return LoginAnswer.REFUSED
    await session.close()
    return LoginAnswer.ACCEPTED


def with_wrong_password(options: ConnectOptions) -> ConnectOptions:
    """Return the same login with a random password, 256 bits long."""
    return replace(options, password=secrets.token_urlsafe(32))


async def probe_acl(options: ConnectOptions) -> tuple[bool | None, int | None]:
    """Publish where a user who may only read has no right to, and tell whether the broker refused it.

    The second value is the reason code of the PUBACK. Both are None with MQTT 3.1.1, where the broker
    acknowledges what it drops; nothing is published then.

    Args:
        options: where to connect and as whom; the client id is not used.

    Raises:
        BrokerError: the broker did not let the user in, or did not acknowledge.
        ConfigError: a TLS file is missing or unusable.
    """
    if options.mqtt_version is MQTTVersion.V311:
        return None, None
    session = await _open(options)
    try:
        if session.options.mqtt_version is MQTTVersion.V311:
            return None, None
        topic = f"{_SELFCHECK}/{secrets.token_hex(8)}"
        code = await session.publish(topic, b"", qos=1, retain=False)
    finally:
        await session.close()
    return refuses_publish(code), code


def refuses_publish(code: int) -> bool | None:
    """Tell from the reason code of a PUBACK whether the user has no right to publish (MQTT 5, 3.4.2.1).

    Args:
        code: the reason code; 0x10, no subscribers, means that the message was taken. None is returned for a
            failure that has nothing to do with rights, for example 0x97, quota exceeded.
    """
    if code < _FAILURE:
        return False
    return True if code == NOT_AUTHORIZED else None


def right_password_refused(options: ConnectOptions, *, explanation: str | None = None) -> ProofError:
    """Make the error for a broker that goes on refusing the right password."""
    why = explanation or "it still reads another password file, or was not reloaded"
    return ProofError(
        f"{options.endpoint}: the broker refuses {options.username!r} with the right password: {why}",
        hint=None if explanation else _OTHER_FILE,
    )


def wrong_password_accepted(options: ConnectOptions) -> ProofError:
    """Make the error for a broker that lets the user in with any password."""
    certificate = options.tls.certfile if options.tls else None
    return ProofError(
        f"{options.endpoint}: the broker is open: it accepts {options.username!r} with a random wrong password",
        hint=_BROKER_OPEN
        if certificate is None
        else f"{_BROKER_OPEN}; with use_identity_as_username the client certificate alone decides",
    )


def acl_not_in_force(options: ConnectOptions) -> ProofError:
    """Make the error for a broker that lets a user publish who should only read."""
    return ProofError(
        f"{options.endpoint}: the ACL is not in force for {options.username!r}: it may publish to {_SELFCHECK}/#",
        hint=_ACL_OFF,
    )


def _check_provable(options: ConnectOptions) -> None:
    if options.username is None:
        raise ConfigError("no user name is given, so that no login can be proven")
    if not options.password:
        raise ConfigError(
            f"no password of {options.username!r} is given, so that no login can be proven",
            hint="Mosquitto refuses an empty password whatever its file says",
        )


def _notices(
    options: ConnectOptions, *, is_anonymous_accepted: bool, is_refused: bool | None, code: int | None
) -> tuple[str, ...]:
    found = []
    if is_anonymous_accepted:
        found.append(f"{options.endpoint} accepts anonymous clients too (allow_anonymous true)")
    if is_refused is False:
        found.append(f"no ACL keeps {options.username!r} from publishing to any topic of {options.endpoint}")
    elif is_refused is None and code is None:
        found.append("whether the ACL is in force is not known: MQTT 3.1.1 does not tell of a refused message")
    elif is_refused is None:
        found.append(f"whether the ACL is in force is not known: the broker answered 0x{code:02x} to a message")
    return tuple(found)


async def _comes(wanted: LoginAnswer, options: ConnectOptions, *, patience_seconds: float) -> bool:
    """Log in at the moments of ``_TRIES`` until the broker says what is wanted; False when it never does."""
    clock = asyncio.get_running_loop().time
    start_seconds = clock()
    for part in _TRIES:
        await asyncio.sleep(start_seconds + part * patience_seconds - clock())
        rest_seconds = start_seconds + patience_seconds - clock()
        if await _answer(options, patience_seconds=rest_seconds) is wanted:
            return True
    return False


async def _answer(options: ConnectOptions, *, patience_seconds: float) -> LoginAnswer:
    """Log in, and try again for a while when the broker gives no answer, for it may be busy hashing."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + patience_seconds
    while True:
        try:
            return await log_in(options)
        except (BrokerUnreachableError, ConnectionLostError):
            if clock() >= deadline:
                raise
        await asyncio.sleep(_RETRY_SECONDS)


async def _open(options: ConnectOptions) -> Session:
    return await open_session(replace(options, client_id=random_client_id()))
