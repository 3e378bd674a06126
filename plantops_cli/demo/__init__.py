"""A broker and a fleet to try the program with, when there is neither."""
