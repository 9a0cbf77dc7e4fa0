"""Comparisons: backbones x seeds under one recipe."""
