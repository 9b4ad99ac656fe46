"""What an operator's links lead to."""
