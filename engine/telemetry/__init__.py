"""OpenTelemetry: spans and metrics of a run, derived from its event stream.

Uses the API alone; whoever starts a run decides whether an SDK is behind it.
"""
