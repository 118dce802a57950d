"""The TensorRT backend of edgekit: engines for NVIDIA GPUs, by standard TensorRT or TensorRT for RTX."""
