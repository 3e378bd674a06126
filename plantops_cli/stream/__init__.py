"""Hearing: one connection to an MQTT broker kept alive; knows MQTT, but no device and no Mosquitto."""
