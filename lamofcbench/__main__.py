"""``python -m lamofcbench`` is the console script ``lamofcbench``."""

from lamofcbench.cli import main

if __name__ == "__main__":
    main()
