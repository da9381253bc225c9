"""KmipInstance: a KMIP server in one or more regions."""
