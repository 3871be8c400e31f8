"""Generated stories: no time limit for one of them, and nothing kept in the tree between runs."""

import tempfile
from pathlib import Path

from hypothesis import configuration, settings

configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir(), "hypothesis"))
settings.register_profile("widgets", database=None, deadline=None)
settings.load_profile("widgets")
