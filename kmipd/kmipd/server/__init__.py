"""The KMIP port: TLS, connections, limits, identity."""
