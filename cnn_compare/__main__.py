"""``python -m cnn_compare``."""

from cnn_compare.cli import main

if __name__ == "__main__":
    main()
