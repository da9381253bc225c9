"""Managed objects: attributes by rule, and the life cycle of NIST SP 800-57."""
