"""Runs in Pyodide before the memory snapshot: imports what every live page needs."""

import importlib
import pkgutil
import sys

sys.path.insert(0, "/pylib.zip")

import kvmlive

kvmlive.install()

import ipywidgets  # noqa: F401
import linecache  # noqa: F401
import traceback  # noqa: F401
import uuid  # noqa: F401

import kvmmodel.widgets

# The widgets bring the model with them.
for module in pkgutil.walk_packages(kvmmodel.widgets.__path__, "kvmmodel.widgets."):
    importlib.import_module(module.name)
