"""The error every part of the image builder raises for a finding a person has to act on."""


class ImageError(Exception):
    """A build or verification cannot go on; the message says what was found and what to do."""
