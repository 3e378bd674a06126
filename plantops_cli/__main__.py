"""``plantops``, and ``python -m plantops_cli``: the way in."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line of the process, and exit."""
    try:
        from plantops_cli.cli.app import run

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        # while the program was still being loaded: nothing has begun
        sys.exit(130)


if __name__ == "__main__":
    main()
