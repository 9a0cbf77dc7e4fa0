"""Comparisons: backbones x seeds under one recipe."""

from cnn_compare.comparison.compare import compare

__all__ = ["compare"]
