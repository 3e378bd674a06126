"""``plantops provision-user``."""
