"""kmipd: a KMIP server whose keys are wrapped by a root key it cannot see."""
