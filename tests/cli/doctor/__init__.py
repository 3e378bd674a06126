"""Doctor: what can be asked of it, and its run."""
