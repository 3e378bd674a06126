"""``plantops demo``."""
