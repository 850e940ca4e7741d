"""Adapters: the only place that calls AWS, and the only place that catches its errors."""
