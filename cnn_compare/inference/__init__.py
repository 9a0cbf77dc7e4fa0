"""Trained networks in use: from a checkpoint to the classes of pictures."""
