"""Mutants that no trial can catch, because they compute the same: the change, and why it changes nothing.

A mutant that survives and is not listed here is a missing trial; one that is listed and does not survive is stale.
"""

EQUIVALENT: dict[tuple[str, str], str] = {
    ("gram_matrices", "'bti,btj->bij' → 'bti,btj->bji'"): "a Gram matrix is symmetric",
    ("sliding_windows", "0 → -1"): "x has one axis, so the first is the last",
    (
        "split_heads",
        "x.reshape(b, t, heads, width // heads).transpose(1, 2) → "
        "x.reshape(b, t, heads, width // heads).transpose(2, 1)",
    ): "swapping two axes is the same in either order",
    ("top_k_accuracy", "logits.topk(k, dim=1) → logits.topk(k)"): "topk takes the last axis where none is given",
    ("weighted_mse", "0 → -1"): "predictions have shape (n, 1), so the first column is the last",
    # 08 huggingface
    ("linear_factor", "0.0 → -0.0"): "the two zeros are equal",
    (
        "linear_factor",
        "max(0.0, (total - step) / (total - warmup)) → max((total - step) / (total - warmup), 0.0)",
    ): "the larger of two numbers, in either order",
    (
        "mean_pool",
        "torch.promote_types(hidden.dtype, torch.float32) → torch.promote_types(torch.float32, hidden.dtype)",
    ): "the wider of two dtypes, in either order",
    ("search", "min(k, len(corpus)) → min(len(corpus), k)"): "the smaller of two numbers, in either order",
    ("compute_metrics", "np.union1d(labels, predictions) → np.union1d(predictions, labels)"): "a union has no order",
    ("perplexity", "0 → -1"): "in a batch of one, the first text is the last",
    ("generate", "0 → -1"): "in a batch of one, the first text is the last",
    ("generate", "new.item() → new"): "a tensor of one number equals that number",
}
