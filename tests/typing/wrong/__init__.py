"""What type checkers must refuse: each line marked ``# wrong``, by mypy and by pyright, and no other line."""
