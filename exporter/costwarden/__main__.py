"""`python -m costwarden` is the `costwarden` command."""

from costwarden.cli import main

if __name__ == "__main__":
    main()
