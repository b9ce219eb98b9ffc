"""slic: a secure learned image codec for authenticity verification."""

__version__ = "0.1.0"
