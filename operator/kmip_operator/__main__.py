"""``python -m kmip_operator``."""

from kmip_operator.cli.main import main

main()
