"""Attacks: gradient-based and black-box."""
