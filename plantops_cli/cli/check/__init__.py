"""``plantops check``."""
