"""What holds for every test."""

from hypothesis import settings

# A test says whether something is right, not how fast: this machine may be doing other things.
settings.register_profile("kmip-operator", deadline=None)
settings.load_profile("kmip-operator")
