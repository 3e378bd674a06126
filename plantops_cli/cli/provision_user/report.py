"""What ``provision-user`` says of its outcome: lines for a person, or one JSON document."""

import json
from collections.abc import Sequence
from pathlib import Path

from plantops_cli.cli.shared.flags.display import DocumentChoice
from plantops_cli.cli.shared.hints import in_flags
from plantops_cli.cli.shared.results import show_document, show_text
from plantops_cli.cli.shared.stderr import say
from plantops_cli.errors import PlantopsError
from plantops_cli.formats.terminal import escape
from plantops_cli.mosquitto.broker.dynsec_client import DynsecOutcome
from plantops_cli.mosquitto.broker.proof import Proof, RemovalProof
from plantops_cli.mosquitto.provisioning import Outcome
from plantops_cli.mosquitto.text.actions import Action
from plantops_cli.mosquitto.text.dynsec import PluginUser
from plantops_cli.mosquitto.text.passwords import FileUser
from plantops_cli.topics import DEVICE_FILTERS

_RELOAD = "reload the broker for it to take effect, for example: systemctl reload mosquitto"
_KICK = "clients connected with the old password are disconnected at the reload"


class Report:
    """Shows outcomes on stdout, and what a person should know beside them on stderr.

    Args:
        output: how to show them.
        is_dry_run: whether nothing was done.
    """

    def __init__(self, output: DocumentChoice, *, is_dry_run: bool) -> None:
        self._is_json = output is DocumentChoice.JSON
        self._is_dry_run = is_dry_run

    def users(self, path: Path, users: Sequence[FileUser]) -> None:
        """Show who stands in a password file, and by which kind of hash; never a hash."""
        if self._is_json:
            rows = [{"line": u.line, "username": u.username, "kind": u.kind, "valid": u.is_valid} for u in users]
            _print_json({"file": str(path), "users": rows})
            return
        width = max((len(escape(user.username)) for user in users), default=0)
        for user in users:
            show_text(f"{escape(user.username):{width}}  {escape(user.kind)}\n")

    def dynsec_users(self, endpoint: str, users: Sequence[PluginUser]) -> None:
        """Show whom the dynamic security plugin knows, and the roles and groups of each."""
        if self._is_json:
            rows = [
                {"username": u.username, "roles": u.roles, "groups": u.groups, "disabled": u.is_disabled}
                for u in users
            ]
            _print_json({"endpoint": endpoint, "users": rows})
            return
        width = max((len(escape(user.username)) for user in users), default=0)
        for user in users:
            said = [*user.roles, *(f"group {name}" for name in user.groups)]
            said += ["disabled"] if user.is_disabled else []
            line = f"{escape(user.username):{width}}  {escape(', '.join(said))}".rstrip()
            show_text(f"{line}\n")

    def dynsec(
        self,
        endpoint: str,
        outcome: DynsecOutcome,
        *,
        proof: Proof | RemovalProof | None,
        failure: PlantopsError | None,
        secret: bytes | None,
        notices: Sequence[str],
    ) -> None:
        """Show what was done on a broker with the dynamic security plugin.

        Args:
            endpoint: the broker's address.
            outcome: what was done.
            proof: what the broker showed of it.
            failure: why the proof failed.
            secret: a generated password to show; None to show none.
            notices: what a person should know besides.
        """
        drift = _drift(outcome.username, outcome.password_matches)
        document: dict[str, object] = {
            "username": outcome.username,
            "action": str(outcome.action),
            "endpoint": endpoint,
            "password_matches": outcome.password_matches,
            "proof": _proof(proof),
            "error": in_flags(str(failure)) if failure else None,
            "dry_run": self._is_dry_run,
        }
        lines = [f"{outcome.username}: {self._would}{outcome.action} on {endpoint}", *_proof_lines(proof)]
        proven = proof.notices if proof else ()
        self._show(lines, document, secret=secret, notices=[*notices, *drift, *outcome.notices, *proven])

    def outcome(self, outcome: Outcome, *, secret: bytes | None, notices: Sequence[str]) -> None:
        """Show what was done.

        Args:
            outcome: what was done.
            secret: a generated password to show; None to show none.
            notices: what a person should know besides.
        """
        said = [*notices, *_advice(outcome, is_dry_run=self._is_dry_run), *outcome.notices]
        lines = _lines(outcome, would=self._would)
        self._show(lines, self._document(outcome), secret=secret, notices=said)

    @property
    def _would(self) -> str:
        return "would be " if self._is_dry_run else ""

    def _show(
        self, lines: Sequence[str], document: dict[str, object], *, secret: bytes | None, notices: Sequence[str]
    ) -> None:
        if self._is_json:
            shown = {"password": secret.decode()} if secret else {}
            _print_json(document | {"notices": list(notices)} | shown)
            return
        for line in lines:
            show_text(f"{escape(line)}\n")
        if secret:
            show_text(f"{secret.decode()}\n")
        for notice in notices:
            say(f"note: {notice}")

    def _document(self, outcome: Outcome) -> dict[str, object]:
        login, grant = outcome.login, outcome.grant
        return {
            "username": login.username,
            "action": str(login.action),
            "file": str(login.path),
            "password_matches": login.password_matches,
            "acl": {"action": str(grant.action), "file": str(grant.path)} if grant else None,
            "reloaded": outcome.is_reloaded,
            "proof": _proof(outcome.proof),
            "error": in_flags(str(outcome.failure)) if outcome.failure else None,
            "dry_run": self._is_dry_run,
        }


def _lines(outcome: Outcome, *, would: str) -> list[str]:
    login, grant = outcome.login, outcome.grant
    lines = [f"{login.username}: {would}{login.action} in {login.path}"]
    if grant:
        filters = " and ".join(DEVICE_FILTERS)
        lines.append(f"{login.username}: right to read {filters}: {would}{grant.action} in {grant.path}")
    if outcome.is_reloaded:
        lines.append("the broker has read its files again")
    return lines + _proof_lines(outcome.proof)


def _proof_lines(proof: Proof | RemovalProof | None) -> list[str]:
    if isinstance(proof, Proof):
        guard = ", publishing elsewhere refused" if proof.is_publish_refused else ""
        return [f"{proof.endpoint}: the login is accepted, a wrong password refused{guard}"]
    if proof and proof.refused_after_seconds is not None:
        return [f"{proof.endpoint}: the login is refused"]
    return []


def _drift(username: str, password_matches: bool | None) -> list[str]:
    if password_matches is not False:
        return []
    return [f"{username} has another password than the one given, and was left as it is"]


def _advice(outcome: Outcome, *, is_dry_run: bool) -> list[str]:
    login = outcome.login
    advice = _drift(login.username, login.password_matches)
    if is_dry_run:
        return advice
    if login.is_new_file:
        advice.append(f"{login.path} is new: the broker's user must be able to read it (chown mosquitto)")
    if outcome.is_changed and not outcome.is_reloaded:
        advice.append(_RELOAD)
    if outcome.is_changed and login.action is Action.UPDATED:
        advice.append(_KICK)
    return advice


def _proof(proof: Proof | RemovalProof | None) -> dict[str, object] | None:
    if proof is None:
        return None
    if isinstance(proof, RemovalProof):
        return {"endpoint": proof.endpoint, "refused_after_seconds": proof.refused_after_seconds}
    return {
        "endpoint": proof.endpoint,
        "accepted_after_seconds": round(proof.accepted_after_seconds, 3),
        "anonymous_accepted": proof.is_anonymous_accepted,
        "publish_refused": proof.is_publish_refused,
    }


def _print_json(document: dict[str, object]) -> None:
    show_document(f"{json.dumps(document)}\n".encode())
