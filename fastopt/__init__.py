"""fastopt: the optimizer core for CPUs."""

from fastopt._core import get_isa, isa_available, set_isa

__version__ = "0.1.0"
__all__ = ["get_isa", "isa_available", "set_isa"]
