"""TTLV, the KMIP message tables, and typed messages: bytes in, bytes out, no I/O."""
