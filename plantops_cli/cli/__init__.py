"""The command line: one module per command, every flag once, one boundary for errors."""
