"""What a task is given and what it leaves: parameters and reports."""
