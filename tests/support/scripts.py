"""Python code in a process of its own: for what a process does to itself, such as to give up its rights."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path

from tests.support.plantops import Done, piped
from tests.support.processes import script


def run_script(
    code: str, *arguments: str | Path, env: Mapping[str, str] | None = None, is_fresh: bool = False
) -> Done:
    """Run some code to its end, with nothing to read.

    Args:
        code: the code, which can import the package and these helpers.
        arguments: what it finds in ``sys.argv`` behind its own name.
        env: its whole environment; None: ours.
        is_fresh: whether it is to have an interpreter of its own, which loads all that it imports.
    """
    nothing = os.open(os.devnull, os.O_RDONLY)
    launch = functools.partial(script, is_fresh=is_fresh)
    with piped([code, *map(str, arguments)], nothing, os.environ if env is None else env, launch) as running:
        return running.finish()
