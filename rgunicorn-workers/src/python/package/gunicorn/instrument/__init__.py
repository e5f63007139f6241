"""Loggers that tell of metrics."""
