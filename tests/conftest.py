"""For every test."""

from hypothesis import settings

settings.register_profile("kvmmodel", deadline=None)  # how long an example takes depends on the machine
settings.load_profile("kvmmodel")
