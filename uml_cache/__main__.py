"""`python -m uml_cache` is the command `uml`."""

from uml_cache.cli import main

if __name__ == "__main__":
    main()
