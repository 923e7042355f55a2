"""Models for other tools: plain PyTorch, `torch.export`, ONNX, features layer by layer; spiking networks as NIR."""

from neuropil.exchange.networks import export, extract_features, to_onnx, to_pt2, to_torch
from neuropil.exchange.nir import from_nir, to_nir

__all__ = ["export", "extract_features", "from_nir", "to_nir", "to_onnx", "to_pt2", "to_torch"]
