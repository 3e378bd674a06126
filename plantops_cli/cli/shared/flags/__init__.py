"""Every flag, declared once: a file for each panel of the help, and in it an alias for each flag.

Letters are mosquitto_sub's; ``-h`` is the host, help is ``--help`` only.
"""
