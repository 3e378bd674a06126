"""What becomes of a message: lines for people, lines for programs."""
