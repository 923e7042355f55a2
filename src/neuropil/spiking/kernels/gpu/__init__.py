"""The walks of the events room as Triton kernels for CUDA GPUs; imported only where triton is installed."""
