"""``python -m cnn_compare``."""

from cnn_compare.cli import script

if __name__ == "__main__":
    script()
