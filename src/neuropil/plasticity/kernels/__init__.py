"""Compiled kernels of the learning rules."""
