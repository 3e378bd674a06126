"""Mosquitto's files on disk: the only writers."""
