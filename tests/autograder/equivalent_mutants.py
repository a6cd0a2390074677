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
    # 06 tensorboard
    (
        "dead_units",
        "(activations != 0).transpose(0, 1) → (activations != 0).transpose(1, 0)",
    ): "swapping two axes is the same in either order",
    ("filters_as_images", "(1, 2, 3) → (2, 1, 3)"): "axes are reduced in any order",
    ("best_run", "1 → 2"): "values that are all doubled are in the same order",
    ("seed_band", "0 → -1"): "the steps that all runs have are among those of the last run as well",
    ("embed", "0 → -1"): "the layer is called once, so the first output is the last",
    ("train_and_log", "F.mse_loss(model(x), y) → F.mse_loss(y, model(x))"): "the squared error is symmetric",
    ("ThrottledWriter", "count + 1 → count - 1"): "counted downwards, the same counts are divisible",
}
