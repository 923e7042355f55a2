"""Triton kernels of rules on CUDA GPUs; they also run in Triton's interpreter on the CPU."""
