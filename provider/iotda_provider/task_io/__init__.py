"""A task's input and output: parameters and reports."""
