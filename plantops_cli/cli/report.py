"""What ``provision-user`` says of its outcome: lines for a person, or one JSON document."""

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from plantops_cli.cli.options import DocumentChoice
from plantops_cli.cli.talk import say
from plantops_cli.mosquitto.acl import DEVICE_FILTERS
from plantops_cli.mosquitto.password_file import Action
from plantops_cli.mosquitto.passwords import User
from plantops_cli.mosquitto.proof import Proof, RemovalProof
from plantops_cli.mosquitto.provisioning import Outcome
from plantops_cli.sinks.terminal import escape

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

    def users(self, path: Path, users: Sequence[User]) -> None:
        """Show who stands in a password file, and by which kind of hash; never a hash."""
        if self._is_json:
            rows = [{"line": u.line, "username": u.username, "kind": u.kind, "valid": u.is_valid} for u in users]
            _print_json({"file": str(path), "users": rows})
            return
        width = max((len(escape(user.username)) for user in users), default=0)
        for user in users:
            typer.echo(f"{escape(user.username):{width}}  {escape(user.kind)}")

    def outcome(self, outcome: Outcome, *, secret: bytes | None, notices: Sequence[str]) -> None:
        """Show what was done.

        Args:
            outcome: what was done.
            secret: a generated password to show; None to show none.
            notices: what a person should know besides.
        """
        said = [*notices, *_advice(outcome, is_dry_run=self._is_dry_run), *outcome.notices]
        if self._is_json:
            _print_json(self._document(outcome, said) | ({"password": secret.decode()} if secret else {}))
            return
        would = "would be " if self._is_dry_run else ""
        for line in _lines(outcome, would=would):
            typer.echo(escape(line))
        if secret:
            typer.echo(secret.decode())
        for notice in said:
            say(f"note: {notice}")

    def _document(self, outcome: Outcome, notices: Sequence[str]) -> dict[str, object]:
        login, grant = outcome.login, outcome.grant
        return {
            "username": login.username,
            "action": str(login.action),
            "file": str(login.path),
            "password_matches": login.password_matches,
            "acl": {"action": str(grant.action), "file": str(grant.path)} if grant else None,
            "reloaded": outcome.is_reloaded,
            "proof": _proof(outcome.proof),
            "error": str(outcome.failure) if outcome.failure else None,
            "dry_run": self._is_dry_run,
            "notices": list(notices),
        }


def _lines(outcome: Outcome, *, would: str) -> list[str]:
    login, grant = outcome.login, outcome.grant
    lines = [f"{login.username}: {would}{login.action} in {login.path}"]
    if grant:
        filters = " and ".join(DEVICE_FILTERS)
        lines.append(f"{login.username}: right to read {filters}: {would}{grant.action} in {grant.path}")
    if outcome.is_reloaded:
        lines.append("the broker has read its files again")
    if isinstance(outcome.proof, Proof):
        proof = outcome.proof
        lines.append(f"{proof.endpoint}: the login is accepted, a wrong password refused" + _guard(proof))
    elif outcome.proof and outcome.proof.refused_after_seconds is not None:
        lines.append(f"{outcome.proof.endpoint}: the login is refused")
    return lines


def _guard(proof: Proof) -> str:
    return ", publishing elsewhere refused" if proof.is_publish_refused else ""


def _advice(outcome: Outcome, *, is_dry_run: bool) -> list[str]:
    login = outcome.login
    advice = []
    if login.password_matches is False:
        advice.append(f"{login.username} has another password than the one given, and was left as it is")
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
    typer.echo(json.dumps(document))
