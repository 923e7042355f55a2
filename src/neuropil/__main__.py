"""`python -m neuropil`."""

from neuropil.cli import entry

if __name__ == "__main__":
    entry()
