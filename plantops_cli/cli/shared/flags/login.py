"""The panel Password: how the password of a login is made and kept."""

from functools import partial
from typing import Annotated

import typer

_option = partial(typer.Option, rich_help_panel="Password")


Generate = Annotated[
    bool,
    _option("--generate", help="Make a password of 256 bits and write it to --secret-file, which must not exist."),
]
Show = Annotated[bool, _option("--show", help="With --generate: show the password too.")]
AllowControl = Annotated[bool, _option("--allow-control", help="Allow control characters in the password.")]
Iterations = Annotated[
    int | None,
    _option(
        "--iterations",
        metavar="N",
        help="Rounds of PBKDF2, 1000 to 1000000; the broker repeats them at each login. (10000)",
    ),
]
