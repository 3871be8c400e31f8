"""Pictures of a run and the widgets that step through it. The drawing modules need the standard library only."""
