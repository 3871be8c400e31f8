"""A small stand-in for IPython, in the browser only: what ipywidgets and the pages import from it.

JupyterLab and the book's build use the real one.
"""

from kvmlive.shell import get_ipython

from . import display

__version__ = "9.0.0+kvmlive"
version_info = (9, 0, 0)
__all__ = ["display", "get_ipython"]
