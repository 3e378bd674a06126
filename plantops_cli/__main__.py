"""``python -m plantops_cli``: the same as ``plantops``."""

from plantops_cli.cli.app import main

if __name__ == "__main__":
    main()
