"""The name and the release of this code."""

PROJECT = "litepose-supernet"
"""The distribution that pip installs."""

VERSION = "0.1.0"
