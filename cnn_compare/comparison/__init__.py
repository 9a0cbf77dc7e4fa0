"""Comparisons: backbones x seeds or folds under one recipe."""
