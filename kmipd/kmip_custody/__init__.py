"""Custody: wraps and unwraps keys by the root key, and does root-key work.

It is the only program that holds a key manager's module and credentials.
"""
