"""From bytes to a pipe, a terminal or a file."""
