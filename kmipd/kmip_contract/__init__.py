"""The files and messages that the operator, kmipd and custody exchange.

All three programs import this package; it imports none of them.
"""
