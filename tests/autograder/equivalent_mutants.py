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
    # 07 attention
    ("MultiHeadAttention", "values.transpose(1, 2) → values.transpose(2, 1)"): "swapping two axes, in either order",
    (
        "MultiHeadAttention",
        "layer(x).reshape(by_head).transpose(1, 2) → layer(x).reshape(by_head).transpose(2, 1)",
    ): "swapping two axes is the same in either order",
    ("bleu", "(1, 2, 3, 4) → (2, 1, 3, 4)"): "the order of the factors does not matter",
    ("bleu", "0.0 → -0.0"): "-0.0 equals 0.0",
    ("bleu", "True → False"): "predictions and targets are equally many",
    ("bleu", "min(0.0, 1 - r / c) → min(1 - r / c, 0.0)"): "the smaller of two, in either order",
    ("bleu", "zip(predicted, targets, strict=True) → zip(predicted, targets)"): "they are equally many",
    (
        "error_rate",
        "min(row[j + 1] + 1, new[j] + 1, row[j] + (symbol != wanted)) → "
        "min(new[j] + 1, row[j + 1] + 1, row[j] + (symbol != wanted))",
    ): "the least of three, in any order",
    ("sample_top_k", "0 → -1"): "the places have shape (b, 1), so the first column is the last",
}
