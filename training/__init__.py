"""Learns: mixing, networks, training, export and evaluation of models.

Uses the engine's own spec and transform, so that training and serving cannot drift.
"""
