"""The one place that knows the version; the distribution reads it too."""

VERSION = "0.1.0"
