"""edgekit_runtime opens compiled models, runs them, times them and checks packages on the device.

Importing this module imports nothing else: no numpy, no engine.
"""

__version__ = "0.1.0"
