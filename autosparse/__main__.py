"""`python -m autosparse`, the same as the console script."""

from autosparse.cli.main import main

main()
