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
    # 05 training
    (
        "bce_with_logits",
        "torch.logaddexp(logits, torch.zeros_like(logits)) → torch.logaddexp(torch.zeros_like(logits), logits)",
    ): "a sum in the other order",
    (
        "warmup_cosine",
        "min((step - warmup) / (total - warmup), 1.0) → min(1.0, (step - warmup) / (total - warmup))",
    ): "the smaller of two numbers, in the other order",
    ("EarlyStopping", "0.0 → -0.0"): "subtracting −0 changes no loss",
    ("parameter_groups", "0.0 → -0.0"): "a weight decay of −0 is none either",
    ("FastText", "0.0 → -0.0"): "adding −0 changes no sum",
    ("train_accumulated", "(_, labels) → (labels, _)"): "inputs and labels of a batch are equally many",
    ("resume", "torch.load(path, weights_only=True) → torch.load(path)"): "True is the default since PyTorch 2.6",
}
