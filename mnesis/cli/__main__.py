"""`python -m mnesis.cli`: the same as the `mnesis` command."""

from mnesis.cli import main

if __name__ == "__main__":
    main()
