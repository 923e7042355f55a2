"""The commands: one file each, whose docstring is its help."""
