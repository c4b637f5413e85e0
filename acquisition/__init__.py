"""Gathers speech, noise and rooms to train on. Imports nothing of ours."""
