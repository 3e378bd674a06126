"""What can be asked of ``plantops demo``."""

from dataclasses import dataclass
from typing import Annotated

import typer

from plantops_cli.cli.shared.flags import display, subscribe

Embedded = Annotated[
    bool, typer.Option("--embedded", help="Use the embedded broker even where Mosquitto is installed.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFlags:
    """The flags of ``demo``, in the order of its help; None and False mean: not given."""

    is_embedded: Embedded = False
    count: subscribe.Count = None
    timeout_seconds: subscribe.Timeout = None
    output: display.Output = None
    is_quiet: display.Quiet = False
