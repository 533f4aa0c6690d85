"""The fault tests use the same real models as the contract suite."""

from tests.loaders.conftest import models

__all__ = ["models"]
