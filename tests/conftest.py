"""What all tests share."""

from hypothesis import settings

# That a machine is busy is no fault of the code.
settings.register_profile("house", deadline=None)
settings.load_profile("house")
