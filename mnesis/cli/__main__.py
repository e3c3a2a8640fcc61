"""`python -m mnesis.cli` is the `mnesis` command."""

from mnesis.cli import main

if __name__ == "__main__":
    main()
