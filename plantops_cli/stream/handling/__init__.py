"""Between a message that was read and its acknowledgement: what a handler is called with."""
