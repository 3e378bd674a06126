"""The flags, a file for each panel."""
