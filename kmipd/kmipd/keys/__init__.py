"""Wrapped keys: custody's client, the short-lived cache, and the fence."""
