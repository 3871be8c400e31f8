"""See IPython/__init__.py."""

from IPython.display import *  # noqa: F403
