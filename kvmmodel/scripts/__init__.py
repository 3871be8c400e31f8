"""Random guest programs that ran on real kernels: read, run in the model, compared. See translate.py for the format."""

from kvmmodel.scripts.run import CPU, Difference, compare, recorded_kernels, recorded_on
from kvmmodel.scripts.translate import Script, ScriptError, read

__all__ = ["CPU", "Difference", "Script", "ScriptError", "compare", "read", "recorded_kernels", "recorded_on"]
