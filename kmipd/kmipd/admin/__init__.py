"""Health, metrics and the mutual-TLS status port."""
