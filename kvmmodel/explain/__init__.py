"""Explain recorded call stacks and function graphs: what the path is, why it happens, whether the model takes it too.

text, kernel = read(path)                  a file, a recording's folder, or standard input
report = explain(text, corpus, kernel)     corpus: the stacks that the model emitted when it ran
print(to_text(report))                     or to_json(report)
"""

from kvmmodel.explain.match import Corpus
from kvmmodel.explain.parse import find
from kvmmodel.explain.render import to_json, to_text
from kvmmodel.explain.report import Report, explain
from kvmmodel.explain.source import ExplainError, kernel_of, read

__all__ = ["Corpus", "ExplainError", "Report", "explain", "find", "kernel_of", "read", "to_json", "to_text"]
