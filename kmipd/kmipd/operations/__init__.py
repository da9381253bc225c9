"""One function per KMIP operation, and the engine that runs a message's batch."""
