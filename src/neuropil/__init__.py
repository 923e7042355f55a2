"""Learning without the global backward pass, in PyTorch, measured fairly against it."""

__version__ = "0.1.0"
