"""Provisioning from end to end: plan, check, try, write, reload, prove.

Whatever can be refused is refused before anything is written. What fails afterwards is told beside the outcome,
for the files are right; only when the broker ended at the reload are the old ones put back.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from plantops_cli.errors import ConfigError, PlantopsError, ProofError, ReloadError
from plantops_cli.mosquitto.broker.broker import Broker, find_broker
from plantops_cli.mosquitto.broker.executable import find_mosquitto
from plantops_cli.mosquitto.broker.preflight import check_reload, is_same_file
from plantops_cli.mosquitto.broker.process import NotRunning
from plantops_cli.mosquitto.broker.proof import Proof, RemovalProof, prove_login, prove_removal
from plantops_cli.mosquitto.broker.trial import try_files
from plantops_cli.mosquitto.files.acl_file import Granted, grant_read, revoke
from plantops_cli.mosquitto.files.password_file import Provisioned, drop_user, write_user
from plantops_cli.mosquitto.files.rewrite import restore
from plantops_cli.mosquitto.text.actions import Action
from plantops_cli.mosquitto.text.conf import Listener
from plantops_cli.mosquitto.text.hashing import DEFAULT_ITERATIONS
from plantops_cli.stream.options import CONNECT_SECONDS, ConnectOptions


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
        password_file: Mosquitto's ``password_file``; None for the one that the broker's configuration names.
        acl_file: Mosquitto's ``acl_file``, to give the right to read the devices in; None to leave it out.
        mode: what is to be true afterwards.
        iterations: rounds of PBKDF2 of a new entry.
        allow_control: whether the password may hold control characters.
        lock_timeout_seconds: how long to wait for another run on a file.
        new_file_owner: uid and gid of a file that is made by root.
        is_trial_wanted: whether to try the new files on a trial broker before they are written: of the running
            broker's own program where it is safe to run, else of the local one.
        config: the broker's ``mosquitto.conf``; None for that of the process to reload.
        reload: the broker to tell, as ``broker.find_broker`` takes it; None for the configuration's.
        is_proof_wanted: whether to prove the outcome on a broker whose address is known.
        address: where that is; None for a plain listener of the running broker's configuration.
        connect_timeout_seconds: how long an attempt to connect to that listener may take.
        is_dry_run: whether to write nothing, and prove nothing.
        on_ready: called when all checks have passed and the login is about to be written.
    """

    username: str
    password: bytes | None = field(repr=False)
    password_file: Path | None = None
    acl_file: Path | None = None
    mode: Mode = Mode.ENSURE
    iterations: int = DEFAULT_ITERATIONS
    allow_control: bool = False
    lock_timeout_seconds: float = 10.0
    new_file_owner: tuple[int, int] | None = None
    is_trial_wanted: bool = False
    config: Path | None = None
    reload: str | None = None
    is_proof_wanted: bool = True
    address: ConnectOptions | None = None
    connect_timeout_seconds: float = CONNECT_SECONDS
    is_dry_run: bool = False
    on_ready: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, or would have been.

    Attributes:
        login: what became of the password file.
        grant: what became of the ACL file; None without one.
        is_reloaded: whether a running broker was told to read its files again.
        remarks: what a person should know of the broker, one line each.
        proof: what the broker showed; None when nothing was asked of it, or when it failed to.
        failure: why telling the broker, or the proof, failed; the files are written all the same.
    """

    login: Provisioned
    grant: Granted | None
    is_reloaded: bool = False
    remarks: tuple[str, ...] = ()
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
        grant = self.grant.notices if self.grant else ()
        return (*self.login.notices, *grant, *self.remarks, *proof)


def provision(request: Request) -> Outcome:
    """Carry out a request.

    Raises:
        ConfigError: the login is not allowed, the broker does not read the file, or a trial is wanted where
            there is no ``mosquitto``.
        BrokerFileError: a file cannot be read or replaced, or the broker would not survive a reload; all are as
            they were.
        ProofError: the trial broker showed that the new files would not do; they were not written.
        ReloadError: the broker may not be signalled, or ended at the reload; the files are as they were.
    """
    broker = find_broker(request.reload, request.config)
    try:
        path = broker.choose_password_file(request.password_file)
        return _provision(replace(request, password_file=path), broker)
    finally:
        broker.close()


def _provision(request: Request, broker: Broker) -> Outcome:
    if request.mode is not Mode.REMOVE and broker.is_user_of_plugin(request.username):
        raise ConfigError(
            f"the dynamic security plugin decides about {request.username!r}: the broker would not look into a "
            "password file",
            hint="make the user through the plugin",
        )
    # a dry run of the code that writes is the plan, so that the two cannot disagree
    plan = _write(replace(request, is_dry_run=True))
    remarks = _remarks(request, broker)
    if plan.is_changed:
        remarks += _check(request, broker, plan)
    if request.is_trial_wanted:
        _try(request, plan, broker)
    if request.is_dry_run:
        return replace(plan, remarks=remarks)
    # a generated password goes to its file before the broker's file has it: a login nobody knows is of no use
    if plan.login.action is not Action.UNCHANGED:
        request.on_ready()
    outcome = replace(_write(request), remarks=remarks)
    if outcome.is_changed:
        outcome = _reload(broker, outcome)
    address = _address(request, broker)
    if address is None or outcome.failure is not None:
        return outcome
    proven = _prove(request, outcome, address, broker)
    if isinstance(proven.failure, ProofError) and not outcome.is_changed and broker.can_be_told:
        # the file is right, but the broker was not told of it when it was written
        _check(request, broker, plan)
        proven = _prove(request, _reload(broker, outcome), address, broker)
    return proven


def _remarks(request: Request, broker: Broker) -> tuple[str, ...]:
    remarks = []
    config = broker.config
    if isinstance(broker.process, NotRunning):
        remarks.append(f"the broker does not run ({broker.process.reason}): this takes effect at its next start")
    if config and config.has_dynsec:
        remarks.append("a user whom the dynamic security plugin knows is decided by it, not by the password file")
    remarks += [
        f"the plugin {plugin.path!r} may decide about logins too, by rules of its own"
        for plugin in (config.unknown_plugins if config else ())
    ]
    if config and request.acl_file and not _is_acl_read(request, broker):
        remarks.append(f"{config.file} does not name this ACL file, so that the broker does not read it")
    return (*remarks, *_unproven(request, broker))


def _is_acl_read(request: Request, broker: Broker) -> bool:
    if request.acl_file is None or broker.config is None:
        return request.acl_file is not None
    return any(is_same_file(request.acl_file, broker.locate(path)) for path in broker.config.acl_files)


def _check(request: Request, broker: Broker, plan: Outcome) -> tuple[str, ...]:
    if not broker.can_be_told or broker.config is None:
        return ()
    written = [plan.login.rewritten, *([plan.grant.rewritten] if plan.grant else [])]
    reader = broker.reader
    unknown = () if reader else ("whether the broker may read its files is not known: it has no pid_file here",)
    return unknown + check_reload(
        broker.config,
        contents={item.path: item.new for item in written},
        reader=reader,
        version=broker.version,
        locate=broker.locate,
        witness=broker.witness,
        new_file_owner=request.new_file_owner,
    )


def _reload(broker: Broker, outcome: Outcome) -> Outcome:
    told_seconds = time.time()
    try:
        is_told = broker.tell()
    except ReloadError as exc:
        return replace(outcome, failure=exc)
    if broker.has_survived():
        broker.remember_reading(told_seconds)
        pinned = _explain_pinned(broker)
        return replace(outcome, is_reloaded=is_told, remarks=outcome.remarks + ((pinned,) if pinned else ()))
    # 2.1 ends when it does not like its files: with the old ones it can be started again
    is_restored = restore(outcome.login.rewritten)
    if outcome.grant is not None:
        is_restored &= restore(outcome.grant.rewritten)
    files = (
        "the old files were put back" if is_restored else "the files were changed meanwhile, and left as they are"
    )
    raise ReloadError(
        f"the broker ended when it was told to read its files again; {files}",
        hint="its log says why; start it again",
    )


def _explain_pinned(broker: Broker) -> str | None:
    files = " and ".join(repr(path) for path in broker.pinned_files())
    return f"it still sees the old {files}, mounted by itself: mount the folder instead" if files else None


def _address(request: Request, broker: Broker) -> ConnectOptions | None:
    if not request.is_proof_wanted or request.address is not None:
        return request.address if request.is_proof_wanted else None
    listener = _plain_listener(broker)
    if listener is None:
        return None
    return ConnectOptions(
        host=listener.host or "",
        port=listener.port,
        unix_socket=listener.unix_socket,
        timeout_seconds=request.connect_timeout_seconds,
    )


def _plain_listener(broker: Broker) -> Listener | None:
    if not broker.can_be_told or broker.config is None:
        return None
    return next((item for item in broker.config.login_listeners if not item.is_tls), None)


def _unproven(request: Request, broker: Broker) -> tuple[str, ...]:
    """Say why a proof that was to be expected will not come."""
    is_expected = request.is_proof_wanted and request.address is None and broker.can_be_told
    if not is_expected or broker.config is None or _plain_listener(broker) is not None:
        return ()
    reasons = [item.why_no_login or f"{item.endpoint} speaks TLS" for item in broker.config.listeners]
    return (f"the login is not proven: {', '.join(reasons)}; give the address of a listener to prove it on",)


def _write(request: Request) -> Outcome:
    # rights first: a login without them is of no use, and they are of none without the login
    grant = _write_acl(request)
    try:
        return Outcome(_write_login(request), grant)
    except BaseException:
        if grant is not None and not request.is_dry_run:
            restore(grant.rewritten)
        raise


def _write_acl(request: Request) -> Granted | None:
    if request.acl_file is None:
        return None
    if request.mode is Mode.REMOVE:
        return revoke(
            request.acl_file,
            request.username,
            lock_timeout_seconds=request.lock_timeout_seconds,
            dry_run=request.is_dry_run,
        )
    return grant_read(
        request.acl_file,
        request.username,
        lock_timeout_seconds=request.lock_timeout_seconds,
        new_file_owner=request.new_file_owner,
        dry_run=request.is_dry_run,
    )


def _write_login(request: Request) -> Provisioned:
    assert request.password_file is not None  # chosen by provision()
    if request.mode is Mode.REMOVE or request.password is None:
        return drop_user(
            request.password_file,
            request.username,
            lock_timeout_seconds=request.lock_timeout_seconds,
            dry_run=request.is_dry_run,
        )
    return write_user(
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


def _try(request: Request, plan: Outcome, broker: Broker) -> None:
    if request.password is None or not plan.login.password_matches:
        return  # a user who is left alone with another password cannot be tried
    with broker.program() as own:
        executable = own or find_mosquitto()
        if executable is None:
            raise ConfigError(
                "no mosquitto on this machine to try the new files on",
                hint="install it (on Debian: apt install mosquitto), or do without the trial",
            )
        asyncio.run(
            try_files(
                executable,
                passwords=plan.login.rewritten.new,
                acl=plan.grant.rewritten.new if plan.grant else None,
                username=request.username,
                password=request.password,
            )
        )


def _prove(request: Request, outcome: Outcome, address: ConnectOptions, broker: Broker) -> Outcome:
    login = replace(address, username=request.username, password=request.password)

    def explain() -> str | None:
        return _explain_pinned(broker)

    try:
        if request.mode is Mode.REMOVE:
            return replace(outcome, proof=asyncio.run(prove_removal(login, explain_acceptance=explain)))
        if not outcome.login.password_matches:
            return outcome  # its password is not known
        is_acl_in_force = _is_acl_read(request, broker)
        proof = asyncio.run(prove_login(login, is_acl_in_force=is_acl_in_force, explain_refusal=explain))
        return replace(outcome, proof=proof)
    except PlantopsError as exc:
        return replace(outcome, failure=exc)
