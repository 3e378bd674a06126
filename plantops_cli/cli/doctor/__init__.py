"""``plantops doctor``."""
