"""``python -m kmip_custody``."""

from kmip_custody.cli import main

main()
