"""`python -m stark_tracker` is the program `stark`."""

from .commands import main

if __name__ == "__main__":
    main()
