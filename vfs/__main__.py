"""`python -m vfs` is `artisync`."""

from vfs.cli import main

if __name__ == "__main__":
    main()
