"""A running broker: found, told to reload, tried, proven."""
