"""A kopf operator that turns four custom resources into a running KMIP service."""
