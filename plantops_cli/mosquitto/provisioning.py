"""Provisioning from end to end: plan, try, write, prove.

Whatever can be refused is refused before anything is written. What fails afterwards, the proof, cannot take the
files back, for they are right: it is told beside the outcome.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from plantops_cli.errors import PlantopsError
from plantops_cli.mosquitto import safe_file
from plantops_cli.mosquitto.acl_file import Granted, grant_read, revoke
from plantops_cli.mosquitto.canary import try_files
from plantops_cli.mosquitto.password_file import Action, Provisioned, provision_user, remove_user
from plantops_cli.mosquitto.passwords import DEFAULT_ITERATIONS
from plantops_cli.mosquitto.proof import Proof, RemovalProof, prove_login, prove_removal
from plantops_cli.stream.options import ConnectOptions


class Mode(StrEnum):
    """What is to be true afterwards."""

    ENSURE = "ensure"
    """The user is there with this password."""

    IF_MISSING = "if-missing"
    """The user is there, with whatever password it had."""

    REMOVE = "remove"
    """The user is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to do.

    Attributes:
        username: the user.
        password: the user's password; None only to remove a user whose password is not known.
        password_file: Mosquitto's ``password_file``.
        acl_file: Mosquitto's ``acl_file``, to give the right to read the devices in; None to leave it out.
        mode: what is to be true afterwards.
        iterations: rounds of PBKDF2 of a new entry.
        allow_control: whether the password may hold control characters.
        lock_timeout_seconds: how long to wait for another run on a file.
        new_file_owner: uid and gid of a file that is made by root.
        is_canary_wanted: whether to try the new files on a private broker before they are written.
        address: the broker on which to prove the outcome; None to prove nothing.
        is_dry_run: whether to write nothing, and prove nothing.
        on_ready: called when all checks have passed and something is about to be written.
    """

    username: str
    password: bytes | None = field(repr=False)
    password_file: Path
    acl_file: Path | None = None
    mode: Mode = Mode.ENSURE
    iterations: int = DEFAULT_ITERATIONS
    allow_control: bool = False
    lock_timeout_seconds: float = 10.0
    new_file_owner: tuple[int, int] | None = None
    is_canary_wanted: bool = False
    address: ConnectOptions | None = None
    is_dry_run: bool = False
    on_ready: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, or would have been.

    Attributes:
        login: what became of the password file.
        grant: what became of the ACL file; None without one.
        proof: what the broker showed; None when nothing was asked of it, or when it failed to.
        failure: why the proof failed; the files are written all the same.
    """

    login: Provisioned
    grant: Granted | None
    proof: Proof | RemovalProof | None = None
    failure: PlantopsError | None = None

    @property
    def is_changed(self) -> bool:
        """Whether a file was written, so that a running broker has to read it again."""
        is_granted = self.grant is not None and self.grant.rewritten.was_written
        return self.login.action is not Action.UNCHANGED or is_granted

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should know, one line each."""
        proof = self.proof.notices if self.proof else ()
        return (*self.login.notices, *(self.grant.notices if self.grant else ()), *proof)


def provision(request: Request) -> Outcome:
    """Carry out a request.

    Raises:
        ConfigError: the login is not allowed, or a canary is wanted where there is no ``mosquitto``.
        BrokerFileError: a file cannot be read or replaced, or the broker would refuse it; all are as they were.
        ProofError: the canary found that the new files would not do; they were not written.
    """
    plan = _write(replace(request, is_dry_run=True))
    if request.is_canary_wanted:
        _try(request, plan)
    if request.is_dry_run:
        return plan
    if plan.is_changed:
        request.on_ready()
    outcome = _write(request)
    return outcome if request.address is None else _prove(request, outcome, request.address)


def _write(request: Request) -> Outcome:
    # rights first: a login without them is of no use, and they are of none without the login
    grant = _write_acl(request)
    try:
        return Outcome(_write_login(request), grant)
    except BaseException:
        if grant is not None and not request.is_dry_run:
            safe_file.restore(grant.rewritten)
        raise


def _write_acl(request: Request) -> Granted | None:
    if request.acl_file is None:
        return None
    options = {"lock_timeout_seconds": request.lock_timeout_seconds}
    if request.mode is Mode.REMOVE:
        return revoke(request.acl_file, request.username, dry_run=request.is_dry_run, **options)
    return grant_read(
        request.acl_file,
        request.username,
        new_file_owner=request.new_file_owner,
        dry_run=request.is_dry_run,
        **options,
    )


def _write_login(request: Request) -> Provisioned:
    if request.mode is Mode.REMOVE or request.password is None:
        return remove_user(
            request.password_file,
            request.username,
            lock_timeout_seconds=request.lock_timeout_seconds,
            dry_run=request.is_dry_run,
        )
    return provision_user(
        request.password_file,
        request.username,
        request.password,
        overwrite=request.mode is Mode.ENSURE,
        allow_control=request.allow_control,
        iterations=request.iterations,
        lock_timeout_seconds=request.lock_timeout_seconds,
        new_file_owner=request.new_file_owner,
        dry_run=request.is_dry_run,
    )


def _try(request: Request, plan: Outcome) -> None:
    if request.password is None or not plan.login.password_matches:
        return  # a user who is left alone with another password cannot be tried
    asyncio.run(
        try_files(
            passwords=plan.login.rewritten.new,
            acl=plan.grant.rewritten.new if plan.grant else None,
            username=request.username,
            password=request.password,
        )
    )


def _prove(request: Request, outcome: Outcome, address: ConnectOptions) -> Outcome:
    login = replace(address, username=request.username, password=request.password)
    try:
        if request.mode is Mode.REMOVE:
            return replace(outcome, proof=asyncio.run(prove_removal(login)))
        if not outcome.login.password_matches:
            return outcome  # its password is not known
        return replace(outcome, proof=asyncio.run(prove_login(login, is_acl_in_force=outcome.grant is not None)))
    except PlantopsError as exc:
        return replace(outcome, failure=exc)
