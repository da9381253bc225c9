"""Custody: wraps and unwraps keys by the root key, and does root-key work; the only holder of key-manager credentials."""
