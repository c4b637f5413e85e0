"""Shows and steers: command line, live session, files, pictures, benchmark.

Not here: signal processing, which is the engine's.
"""
