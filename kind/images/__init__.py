"""Builds the project's container images without a container engine or a registry."""
