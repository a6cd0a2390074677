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
    # 02 autograd
    ("numerical_gradient", "0.0001 → -0.0001"): "a step down and a step up are the same two points",
    ("numerical_gradient", "x.detach() → x"): "torch.tensor takes the numbers alone, though it remarks on the graph",
    ("safe_sqrt", "1 → 0"): "where passes no gradient to what it did not choose, so any number is harmless",
    ("safe_sqrt", "1 → 2"): "any number is harmless",
    ("hessian", "0 → -1"): "the tuple has one gradient",
    ("fit_ridge", "(w, b) → (b, w)"): "both begin as a zero",
    ("Value", "zip(node.parents, node.slopes, strict=True) → zip(node.parents, node.slopes)"): "equally long",
    ("Value", "True → False"): "strict: equally long",
    ("Value", "self.op = op → nothing"): "for the drawing",
    ("Value", "(self, other) → (other, self)"): "the parents of a sum, whose slopes are equal",
    ("Value", "self * -1 → self / -1"): "the same number",
    ("Value", "0.0 → -0.0"): "the same number",
    ("Value", "0 → 1"): "the depth of a leaf is arbitrary",
    ("Value", "0 → -1"): "the depth of a leaf is arbitrary",
    ("Value", "1 → 2"): "a depth may grow by more than one",
}
