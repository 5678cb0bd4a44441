"""Solvers with SciPy's interface: one method per file, one loop around them all."""
