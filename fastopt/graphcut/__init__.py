"""Graph cuts in two and more labels."""
