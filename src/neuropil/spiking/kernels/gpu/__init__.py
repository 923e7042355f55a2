"""Kernels for CUDA GPUs, compiled by Triton; imported only where Triton is installed."""
