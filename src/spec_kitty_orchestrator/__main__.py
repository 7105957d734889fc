"""Makes `python -m spec_kitty_orchestrator` the same as the console script."""

from spec_kitty_orchestrator.cli import main

if __name__ == "__main__":
    main()
