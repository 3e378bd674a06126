"""``plantops listen``."""
