"""A cache that keeps keys and values as float16, to measure what this rounding alone does to logits."""

from transformers import DynamicCache


class HalfCache(DynamicCache):
    """`DynamicCache`, but attention sees keys and values rounded to float16 (those of the current tokens too)."""

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        return super().update(key_states.half().float(), value_states.half().float(), layer_idx, *args, **kwargs)
