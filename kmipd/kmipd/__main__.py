"""``python -m kmipd``."""

from kmipd.cli.main import main

main()
