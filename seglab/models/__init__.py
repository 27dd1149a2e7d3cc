"""The models: image `float [B,3,H,W]` in 0..255 -> logits `[B,K,H,W]`, for any H and W."""

from seglab.models.network import Network, parameter_table

__all__ = ["Network", "parameter_table"]
