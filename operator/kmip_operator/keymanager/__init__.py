"""KeyManager: where root keys live, and whether it can be reached with the credentials given."""
