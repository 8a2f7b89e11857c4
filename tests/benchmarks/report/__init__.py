"""What is told of a run: medians, tables, targets, plots."""
