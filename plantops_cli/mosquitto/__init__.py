"""Mosquitto's own files; nothing outside this package knows their grammar."""
