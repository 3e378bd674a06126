"""plantops and other libraries for MQTT in Python: the same handlers, the same broker, by turns."""
