"""Random guest programs that ran on real kernels: read, run in the model, compared. See translate.py for the format."""

from kvmmodel.scripts.avic import Pair, Verdict, compare_avic
from kvmmodel.scripts.avic_differences import TABLE
from kvmmodel.scripts.run import AVIC_CPU, CPU, Difference, compare, recorded_kernels, recorded_on
from kvmmodel.scripts.translate import Script, ScriptError, in_xapic_mode, read

__all__ = [
    "AVIC_CPU",
    "CPU",
    "TABLE",
    "Difference",
    "Pair",
    "Script",
    "ScriptError",
    "Verdict",
    "compare",
    "compare_avic",
    "in_xapic_mode",
    "read",
    "recorded_kernels",
    "recorded_on",
]
