"""Property tests here are about results, never about time."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None, max_examples=60, stateful_step_count=25)
settings.load_profile("untimed")
