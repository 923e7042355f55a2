"""Kernels of the spiking networks, one file per neuron and device; none of them knows autograd or checks its input."""
