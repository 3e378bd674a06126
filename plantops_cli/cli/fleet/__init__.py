"""``plantops fleet``."""
