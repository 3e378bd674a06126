"""The grammar of Mosquitto's files: bytes in, values out."""
