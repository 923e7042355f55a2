"""Layers and activations that the models are built of."""
