"""One program for each library, written as its own documentation tells a user to write it."""
