"""GGUF Loader WebUI: a browser UI and local server for language models."""

__version__ = "0.1.0"
