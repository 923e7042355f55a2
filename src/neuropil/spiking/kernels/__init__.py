"""Compiled kernels of the spiking networks, one file per neuron and device."""
