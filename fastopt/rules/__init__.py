"""The update rules: a small class each, and what all of them share."""
