"""Factorization machines: state, run, saved models, estimators."""
