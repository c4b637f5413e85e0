"""Hears and cleans: everything between a microphone's samples and clean samples.

Imports nothing of ours. Not here: command line, windows, settings, training.
"""
