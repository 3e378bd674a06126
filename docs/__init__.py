"""What the documentation has of the program itself."""
