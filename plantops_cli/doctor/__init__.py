"""Every step to the first message, examined one by one."""
