"""Renderings of a run: ftrace lines, stacks, function graphs, and the steps of the diagrams."""
